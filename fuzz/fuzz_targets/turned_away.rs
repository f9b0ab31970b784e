#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bulla_testkit::decoders::run("turned_away", bytes));
