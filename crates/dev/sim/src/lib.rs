//! Deterministic simulation of consensus networks.
