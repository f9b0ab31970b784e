#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(bulla_gateway::fuzzing::webhook(bytes)));
