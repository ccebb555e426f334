//! Tests of the store: against a naive model, its bound, its reckoning, its hit ratio.
