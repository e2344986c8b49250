//! The ParaTimes of a node put together, and the service for their clients.
