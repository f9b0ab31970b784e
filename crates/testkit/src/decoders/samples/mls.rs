//! MLS messages and Welcomes, and what is inside them.

use super::Samples;
use crate::decoders::mls;
use crate::decoders::world::{cbor, world};

impl Samples {
    pub(super) fn mls(&mut self) {
        let w = world();
        self.put("mls_message", "ok-question", &w.question);
        self.put("mls_message", "ok-answer", &w.answer);
        self.put("mls_message", "no-empty", b"");
        self.put("mls_message", "no-replay", &w.first);
        self.put("mls_message", "no-version-2", [&[0, 2][..], &w.question[2..]].concat());
        // A KeyPackage, as a message.
        let payload = cbor::items(&cbor::content(&cbor::items(&w.bundle).unwrap()[0]).unwrap()).unwrap();
        let package = cbor::content(&payload[8]).unwrap();
        self.put("mls_message", "no-key-package", [&[0, 1, 0, 5][..], &package].concat());
        self.put("mls_message", "no-group-info", [&[0, 1, 0, 4][..], &w.group_info[..200]].concat());
        self.put("mls_message", "no-public-message", [&[0, 1, 0, 1][..], &w.question[4..]].concat());
        self.put("mls_message", "no-vector-of-2-to-the-30", [&w.question[..4], &[0xbf, 0xff, 0xff, 0xff]].concat());
        self.put(
            "mls_message",
            "no-vector-with-a-longer-head",
            [&w.question[..4], &[0x40, 0x10], &w.question[5..]].concat(),
        );

        self.put("mls_welcome", "ok-whole", &w.welcome);
        self.put("mls_welcome", "no-empty", b"");
        self.put("mls_welcome", "no-message", &w.question);
        self.put("mls_welcome", "no-secrets", [&w.welcome[..6], &[0, 0]].concat());
        self.put("mls_welcome", "no-suite-that-is-known", [&w.welcome[..4], &[0, 2], &w.welcome[6..]].concat());

        let info = mls::group_info_sample();
        let length = usize::from(u16::from_be_bytes([info[0], info[1]]));
        let extensions = &info[2 + length + 4..];
        let with = |signer: u32, extensions: &[u8]| [&info[..2 + length], &signer.to_be_bytes(), extensions].concat();
        self.put("mls_group_info", "ok-whole", &info);
        self.put("mls_group_info", "no-empty", b"");
        self.put("mls_group_info", "no-extensions", with(0, b""));
        self.put("mls_group_info", "no-signed-by-the-joiner", with(1, extensions));
        self.put("mls_group_info", "no-signer-that-is-there", with(u32::MAX, extensions));
        self.put("mls_group_info", "no-empty-tree", with(0, &[0, 2, 1, 0]));
        self.put("mls_group_info", "no-tree-of-blanks", with(0, &[0, 2, 4, 3, 0, 0, 0]));

        let inside = |kind: u8, generation: u8, content: &[u8]| [&[kind, generation, 0][..], content].concat();
        self.put("mls_content", "ok-application", inside(1, 1, b"\x05hello"));
        self.put("mls_content", "ok-application-later", inside(1, 200, b"\x00"));
        self.put("mls_content", "no-empty", b"");
        self.put("mls_content", "no-generation-that-was", inside(1, 0, b"\x05hello"));
        self.put("mls_content", "no-content-type-0", inside(0, 0, b"\x05hello"));
        self.put("mls_content", "no-content-type-9", inside(9, 0, b"\x05hello"));
        self.put("mls_content", "no-length-beyond-the-end", inside(1, 1, &[0xbf, 0xff, 0xff, 0xff]));
        self.put("mls_content", "no-signature", [&[1, 1, 1][..], b"\x05hello"].concat());
        let context = &info[2..2 + length];
        for (which, proposal) in mls::proposals(&package, context) {
            self.put("mls_content", &format!("no-proposal-{which}"), inside(2, 0, &proposal));
            let one = [&[1][..], &proposal].concat();
            self.put("mls_content", &format!("no-commit-{which}"), inside(3, 0, &[&mls::vl(&one)[..], &[0]].concat()));
        }
        self.put("mls_content", "no-commit-of-nothing", inside(3, 0, &[0, 0]));
        self.put(
            "mls_content",
            "no-commit-of-a-reference",
            inside(3, 0, &[&mls::vl(&[&[2, 32][..], &[1; 32]].concat())[..], &[0]].concat()),
        );
        let path = mls::path_sample().unwrap();
        self.put("mls_content", "no-commit-with-a-path", [&[3, 0, 2][..], &path].concat());
    }
}
