//! The promises and what runs for each. A row is added when something shows more of a promise; none is taken away.

/// One promise.
pub(super) struct Promise {
    /// P1 to P10.
    pub(super) id: &'static str,
    /// What is promised.
    pub(super) says: &'static str,
    /// What shows it; empty means: not yet.
    pub(super) evidence: &'static [Evidence],
}

/// One thing that runs, and what it shows when it holds.
pub(super) struct Evidence {
    /// What is known if it holds.
    pub(super) shows: &'static str,
    /// What runs.
    pub(super) runs: Runs,
}

/// What can run.
pub(super) enum Runs {
    /// One test of one package, by its exact name.
    Test {
        /// The package.
        package: &'static str,
        /// Which of its test programs: `--lib`, or `--test` and a name.
        target: &'static [&'static str],
        /// The test's path inside.
        name: &'static str,
    },
    /// One test over real programs, of `crates/testkit/tests/`.
    Outer {
        /// The file, without `.rs`.
        file: &'static str,
        /// The test.
        name: &'static str,
    },
    /// One check of `cargo xtask check`.
    Check(&'static str),
}

pub(super) const PROMISES: &[Promise] = &[
    Promise {
        id: "P1",
        says: "Only the customer and the business can read messages and media and hear calls",
        evidence: &[
            Evidence {
                shows: "the relay's dependency graph contains no code that could decrypt",
                runs: Runs::Check("relay-cannot-read"),
            },
            Evidence {
                shows: "1,000 marked messages and their senders' names are not in the relay's memory, files or log, nor in the gateway's \
                        files; they are in the gateway's memory and on the customers' screens (positive control)",
                runs: Runs::Outer { file: "canary", name: "p1_no_canary_at_the_relay_nor_in_the_gateways_files" },
            },
            Evidence {
                shows: "a web server or relay that serves another bundle, seal key or KeyPackage is refused, and nothing is sent",
                runs: Runs::Outer {
                    file: "hostile",
                    name: "key_02_another_bundle_seal_key_or_key_package_is_refused_and_nothing_is_sent",
                },
            },
            Evidence {
                shows: "another identity that goes on with an open conversation is shown as such, and nothing is ever sealed to it",
                runs: Runs::Test {
                    package: "bulla-testkit",
                    target: &["--test", "rules"],
                    name: "key_02_another_identity_is_told_and_nothing_is_ever_sealed_to_it",
                },
            },
            Evidence {
                shows: "the programs that are shipped have nothing of what tests watch and break endpoints with",
                runs: Runs::Check("shipped-features"),
            },
        ],
    },
    Promise {
        id: "P2",
        says: "A message that a connected device confirms within five seconds never touches the relay's disk; any other waits as \
               ciphertext, at most 30 days, then is gone",
        evidence: &[
            Evidence {
                shows: "what a connected reader confirms is not in the relay's files; what waits is, sealed (positive control)",
                runs: Runs::Outer { file: "relay", name: "p2_what_a_connected_reader_confirms_never_touches_the_disk" },
            },
            Evidence {
                shows: "what was acknowledged, or is over, opens for nobody who takes every file of the relay afterwards, though a copy of \
                        its store from before is there whole",
                runs: Runs::Test {
                    package: "bulla-relay",
                    target: &["--test", "relay"],
                    name: "keys::p2_what_was_acknowledged_or_is_over_opens_for_nobody_who_takes_every_file",
                },
            },
            Evidence {
                shows: "thirty days are thirty days: not a moment less, and the reader is told how many went",
                runs: Runs::Test {
                    package: "bulla-relay",
                    target: &["--test", "relay"],
                    name: "held::what_nobody_read_for_thirty_days_goes_and_leaves_a_gap",
                },
            },
        ],
    },
    Promise {
        id: "P3",
        says: "Media waits as ciphertext, for a limited time; forwarding it uploads nothing while it lives",
        evidence: &[
            Evidence {
                shows: "marked files that went both ways are in no file of the relay, the gateway or the customer, but where a person saved \
                        them (positive control)",
                runs: Runs::Outer { file: "files", name: "a_picture_goes_to_the_business_and_a_document_comes_back" },
            },
            Evidence {
                shows: "after its last day a file is refused, and nothing of it is left in the relay's folder",
                runs: Runs::Test {
                    package: "bulla-relay",
                    target: &["--test", "relay"],
                    name: "blobs::a_blob_goes_when_its_time_is_over_and_nothing_of_it_stays",
                },
            },
            Evidence {
                shows: "a file that is sent twice is uploaded once",
                runs: Runs::Test {
                    package: "bulla-client",
                    target: &["--test", "engine"],
                    name: "attachments::a_picture_goes_both_ways_and_is_sealed_on_the_way",
                },
            },
        ],
    },
    Promise {
        id: "P4",
        says: "The relay keeps no call or message detail records",
        evidence: &[
            Evidence {
                shows: "the relay's log, at its most talkative, has no envelope and no peer's address",
                runs: Runs::Outer { file: "relay", name: "p4_the_relays_log_has_no_envelope_and_no_address" },
            },
            Evidence {
                shows: "no name, user id or number of a customer is in the relay's memory, files, log, or in what it discloses; all are in \
                        the gateway's memory (positive control)",
                runs: Runs::Outer { file: "canary", name: "p4_no_name_or_pseudonym_at_the_relay" },
            },
            Evidence {
                shows: "whoever has every file of a relay, and all that it discloses, does not find out of them which business a customer wrote to; who \
                        sees all that goes through finds it of most (positive control)",
                runs: Runs::Test {
                    package: "bulla-relay",
                    target: &["--test", "relay"],
                    name: "linker::p4_what_a_relay_keeps_does_not_tell_who_wrote_to_whom",
                },
            },
            Evidence {
                shows: "what a relay discloses while it runs is what is in its folder when it has stopped",
                runs: Runs::Outer {
                    file: "first_light",
                    name: "disclose_prints_the_same_of_a_running_and_of_a_stopped_relay",
                },
            },
        ],
    },
    Promise {
        id: "P5",
        says: "A business is who it says it is, and so is its provider; strict rules hold for both",
        evidence: &[
            Evidence {
                shows: "a business writes what it was not asked for only to who agreed; what was withdrawn the relay refuses, also where the \
                        business's program does as if it had not heard",
                runs: Runs::Test {
                    package: "bulla-client",
                    target: &["--test", "engine"],
                    name: "consent::withdrawn_is_withdrawn_at_the_relay",
                },
            },
            Evidence {
                shows: "what the business keeps of a consent verifies with the customer's id alone, over the real programs",
                runs: Runs::Outer {
                    file: "choices",
                    name: "a_template_is_made_sent_to_who_agreed_and_refused_to_who_withdrew",
                },
            },
        ],
    },
    Promise {
        id: "P6",
        says: "The API has the same end-to-end encryption as the app",
        evidence: &[
            Evidence {
                shows: "the gateway is built with the same engine and the same MLS as the customer's program",
                runs: Runs::Check("gateway-is-an-endpoint"),
            },
            Evidence {
                shows: "what the API takes is on the customer's screen, and on no wire between the gateway and the relay",
                runs: Runs::Outer { file: "gateway", name: "p6_what_the_api_takes_leaves_the_gateway_sealed" },
            },
            Evidence {
                shows: "the API listens on this machine alone, unless it is told otherwise in so many words",
                runs: Runs::Outer { file: "gateway", name: "p6_the_api_listens_on_this_machine_alone" },
            },
        ],
    },
    Promise {
        id: "P7",
        says: "What the business stores is encrypted, kept as long as its policy says, exportable and erasable; customers see who \
               reads",
        evidence: &[],
    },
    Promise { id: "P8", says: "A stolen phone or a cloud backup does not give the messages away", evidence: &[] },
    Promise {
        id: "P9",
        says: "Scams and malware meet a fence",
        evidence: &[
            Evidence {
                shows: "a permit to write can neither be made nor changed without the mailbox's key: no stranger can write first",
                runs: Runs::Test {
                    package: "bulla-protocol",
                    target: &["--lib"],
                    name: "permit::tests::every_field_is_authenticated",
                },
            },
            Evidence {
                shows: "nothing of a file is fetched before a person asks for it",
                runs: Runs::Test {
                    package: "bulla-client",
                    target: &["--test", "engine"],
                    name: "attachments::nothing_is_fetched_by_itself_and_what_was_fetched_is_here",
                },
            },
            Evidence {
                shows: "a file is saved under a name that says what its bytes are, whatever its sender calls it",
                runs: Runs::Test {
                    package: "bulla-client",
                    target: &["--lib"],
                    name: "media::tests::dev_04_a_corpus_of_names_gives_names",
                },
            },
        ],
    },
    Promise { id: "P10", says: "All of it can be checked from outside", evidence: &[] },
];
