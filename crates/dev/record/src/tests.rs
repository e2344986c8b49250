//! placeholder while tests are being written
