//! The engine against a real relay on real sockets and real files: two endpoints, one of each kind.

mod attachments;
mod beginnings;
mod choices;
mod consent;
mod devices;
mod failures;
mod first_light;
mod fixtures;
mod impostors;
mod memory;
mod push;
mod recovery;
mod restarts;
mod restore;
mod secrets;
mod staying;
mod suites;
mod transfer;
mod tx;
mod world;
