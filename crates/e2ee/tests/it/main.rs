//! Stories and attacks over the whole public interface, in one binary.

mod first_light;
mod hello;
mod world;
