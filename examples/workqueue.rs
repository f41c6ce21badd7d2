//! File names in, contents out: workers read files, the owner has the contents in the order in which they come.
//!
//! ```text
//! $ cargo run --release --example workqueue
//! 4 workers read 40 files
//! there is none can't be read: No such file or directory (os error 2)
//! 376031 bytes in 40 files
//! ```
//! With arguments it reads those files instead of its own sources.
use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::{fs, io};

use sapwood::WorkersBuilder;
use sapwood::queue::{Outcome, work_queue};

const WORKERS: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let mut files: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if files.is_empty() {
        sources(Path::new(env!("CARGO_MANIFEST_DIR")).join("shm/src").as_path(), &mut files)?;
    }
    println!("{WORKERS} workers read {} files", files.len());

    // A job is a path, an answer is what reading it gives: an error is an answer like any other.
    let (mut owner, worker) = work_queue::<PathBuf, io::Result<Vec<u8>>>(16)?;
    let worker = Mutex::new(worker);
    let reading = WorkersBuilder::new(WORKERS)
        .init(move |_| worker.lock().map_err(|e| e.to_string())?.try_clone().map_err(|e| e.to_string()))
        .start(|_, jobs| {
            let mut count = 0;
            for job in jobs {
                let contents = fs::read(&*job);
                job.finish(contents).map_err(|e| e.to_string())?;
                count += 1;
            }
            Ok::<usize, String>(count)
        })?;

    let mut path_of = HashMap::new();
    let missing = PathBuf::from("there is none");
    for path in files.iter().chain([&missing]) {
        path_of.insert(owner.submit(path.clone()).map_err(|e| e.to_string())?, path);
    }
    let (mut bytes, mut read) = (0, 0);
    for answer in owner.drain()? {
        let path = path_of.remove(&answer.ticket).expect("one answer for each job");
        match answer.outcome {
            Outcome::Answer(Ok(contents)) => {
                assert_eq!(contents.len() as u64, fs::metadata(path)?.len());
                (bytes, read) = (bytes + contents.len(), read + 1);
            }
            Outcome::Answer(Err(e)) => println!("{} can't be read: {e}", path.display()),
            Outcome::Failed { attempts } => return Err(format!("{path:?}: gave up {attempts} times").into()),
        }
    }
    println!("{bytes} bytes in {read} files");
    owner.close();
    let counts = reading.join()?;
    assert_eq!((read, counts.iter().sum::<usize>(), path_of.len()), (files.len(), files.len() + 1, 0));
    Ok(())
}

/// Every Rust file below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    Ok(())
}
