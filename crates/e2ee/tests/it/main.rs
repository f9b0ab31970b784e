//! Stories and attacks over the whole public interface, in one binary.

mod attacks;
mod commits;
mod craft;
mod first_light;
mod hello;
mod insider;
mod liar;
mod messages;
mod mimi;
mod suites;
mod world;
