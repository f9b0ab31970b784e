//! The relay from outside: real sockets, real files, a clock that the test moves.

mod common;
mod delivery;
mod ownership;
