//! All recorded chains replay to their end with nothing different, and single changed values are found.
