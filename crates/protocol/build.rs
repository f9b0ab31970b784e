//! Compiles `proto/relay.proto` with protox, so that no `protoc` has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../../proto/relay.proto");
    let files = protox::compile(["relay.proto"], ["../../proto"])?;
    prost_build::Config::new()
        .bytes([
            ".bulla.relay.v1.Send.envelope",
            ".bulla.relay.v1.Deliver.envelope",
            ".bulla.relay.v1.ClaimSlot.commit",
            ".bulla.relay.v1.SlotClaimed.winner",
            ".bulla.relay.v1.SlotRead.commit",
        ])
        .compile_fds(files)?;
    Ok(())
}
