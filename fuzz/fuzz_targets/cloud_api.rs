#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = bulla_gateway::fuzzing::cloud_api(bytes);
});
