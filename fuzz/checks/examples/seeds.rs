//! Writes the seeds of all fuzz targets to `fuzz/seeds`; what else lies there stays.

use std::fs;
use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../seeds");
    let seeds = sapwood_fuzz_checks::seeds();
    for seed in &seeds {
        let folder = root.join(seed.target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(&seed.name), &seed.data)?;
    }
    let bytes: usize = seeds.iter().map(|s| s.data.len()).sum();
    println!("{} seeds, {bytes} bytes", seeds.len());
    Ok(())
}
