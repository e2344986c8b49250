//! Floods: what peers send in bulk must not grow the process.

mod app;
mod flood;
