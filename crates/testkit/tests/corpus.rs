//! Every committed input of every decoder, and thousands of mutations of each: what the fuzz targets of `fuzz/` run, on every `cargo test`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bulla_testkit::decoders::{ALL, corpus, samples};

/// One test per decoder, so that they run side by side and a failure names its decoder.
macro_rules! replayed {
    ($($decoder:ident: $test:ident;)*) => {
        $(
            #[test]
            fn $test() {
                let decoder = ALL.iter().find(|d| d.name == stringify!($decoder)).expect("it is a decoder");
                let ran = corpus::replay(decoder);
                println!("{}: {ran} inputs", decoder.name);
            }
        )*

        /// The decoders that this file replays.
        const REPLAYED: &[&str] = &[$(stringify!($decoder)),*];
    };
}

replayed! {
    client_frame: mls_02_client_frames_and_their_mutations;
    server_frame: mls_02_server_frames_and_their_mutations;
    permit: mls_02_permits_and_their_mutations;
    tag: mls_02_tags_and_their_mutations;
    names: mls_02_names_and_their_mutations;
    link: mls_02_links_and_their_mutations;
    given_permit: mls_02_given_permits_and_their_mutations;
    content: mls_02_contents_and_their_mutations;
    envelope: mls_02_envelopes_and_their_mutations;
    certificate: mls_02_certificates_and_their_mutations;
    bundle: mls_02_bundles_and_their_mutations;
    hello: mls_02_hellos_and_their_mutations;
    hello_again: mls_02_answers_to_hellos_and_their_mutations;
    invitation: mls_02_invitations_and_their_mutations;
    join: mls_02_requests_to_be_let_in_and_their_mutations;
    continues: mls_02_statements_that_continue_and_their_mutations;
    turned_away: mls_02_statements_that_turn_away_and_their_mutations;
    mls_message: mls_02_mls_messages_and_their_mutations;
    mls_welcome: mls_02_welcomes_and_their_mutations;
    mls_group_info: mls_02_the_inside_of_welcomes_and_its_mutations;
    mls_content: mls_02_the_inside_of_mls_messages_and_its_mutations;
    customer_endpoint: mls_02_a_customer_survives_scripts_and_their_mutations;
    business_endpoint: mls_02_a_business_survives_scripts_and_their_mutations;
}

fn fuzz() -> PathBuf {
    corpus::folder().join("..")
}

fn names_in(folder: PathBuf) -> BTreeSet<String> {
    let list = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    list.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A decoder without a fuzz target, a corpus or a test here fails; so does a target or a corpus that nobody replays.
#[test]
fn every_decoder_has_a_fuzz_target_a_corpus_and_a_test() {
    // The gateway's are private to it and replayed there.
    let gateways = std::fs::read_to_string(fuzz().join("../crates/gateway/src/fuzzing.rs")).unwrap();
    let gateways =
        gateways.lines().filter_map(|line| line.trim().strip_prefix("Decoder { name: \"")?.split('"').next());
    let all: BTreeSet<String> = ALL.iter().map(|d| d.name).chain(gateways).map(str::to_owned).collect();
    assert_eq!(REPLAYED, ALL.iter().map(|d| d.name).collect::<Vec<_>>(), "tests of this file");
    assert_eq!(names_in(corpus::folder()), all, "folders of fuzz/corpus");
    let targets = names_in(fuzz().join("fuzz_targets")).into_iter().map(|name| name.replace(".rs", ""));
    assert_eq!(targets.collect::<BTreeSet<_>>(), all, "fuzz/fuzz_targets");
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in all {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is not in fuzz/Cargo.toml");
    }
}

/// What the encoders make today is what is committed. An encoder that changed on purpose: write the samples again.
#[test]
fn samples_are_what_the_encoders_make() {
    for sample in samples::all() {
        let path = corpus::folder().join(sample.decoder).join(&sample.name);
        let committed = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(committed == sample.bytes, "{}/{} is another now", sample.decoder, sample.name);
    }
}
