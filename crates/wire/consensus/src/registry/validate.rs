//! Stateless checks of runtime descriptors and parameters.
