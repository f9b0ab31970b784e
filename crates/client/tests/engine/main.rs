//! The engine against a real relay on real sockets and real files: two endpoints, one of each kind.

mod first_light;
mod world;
