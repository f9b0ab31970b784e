//! The relay from outside: real sockets, real files, a clock that the test moves.

mod backup;
mod bad_input;
mod blobs;
mod check;
mod common;
mod delivery;
mod disk;
mod faults;
mod formats;
mod frames;
mod held;
mod keys;
mod kills;
mod linker;
mod operator;
mod ownership;
mod permits;
mod program;
mod rules;
mod settings;
mod slots;
