//! Writes the samples of `fuzz/corpus/`, and first, if there is none, the world that they belong to (`fuzz/world/`).

use bulla_testkit::decoders::{corpus, samples, world};

fn main() -> anyhow::Result<()> {
    if !world::folder().exists() {
        println!("a new world: {}", world::folder().display());
        samples::make_world(&world::folder())?;
    }
    let samples = samples::all();
    for sample in &samples {
        let folder = corpus::folder().join(sample.decoder);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(&sample.name), &sample.bytes)?;
    }
    println!("{} samples, {} bytes", samples.len(), samples.iter().map(|s| s.bytes.len()).sum::<usize>());
    Ok(())
}
