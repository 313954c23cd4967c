//! Package descriptions with the vectors that all-MiniLM-L6-v2 made of them. They are data of third parties and no part of
//! the repository.

use std::io::Read;
use std::path::Path;

use serde_json::Value;

/// Texts and vectors, in the same order.
pub struct Debian {
    pub docs: Vec<String>,
    pub doc_vectors: Vec<Vec<f32>>,
    pub queries: Vec<String>,
    pub query_vectors: Vec<Vec<f32>>,
    /// Which of all documents is the nearest to each query, by cosine distance.
    pub nearest: Vec<u64>,
}

impl Debian {
    /// All documents of the directory, and its first `queries` queries.
    pub fn load(data: &Path, queries: usize) -> Self {
        let mut lines = String::new();
        let file = std::fs::File::open(data.join("docs.jsonl.gz")).expect("readable");
        flate2::read::GzDecoder::new(file)
            .read_to_string(&mut lines)
            .expect("gzip of text");
        let part = |line: &str, key: &str| -> String {
            let object: Value = serde_json::from_str(line).expect("JSON");
            object[key].as_str().expect("a string").to_owned()
        };
        let doc = |line| format!("{}: {}", part(line, "name"), part(line, "text"));
        let asked = std::fs::read_to_string(data.join("queries.jsonl")).expect("readable");
        let nearest = npy(&data.join("gt_cosine_distance_ids.npy"));
        Self {
            docs: lines.lines().map(doc).collect(),
            doc_vectors: npy(&data.join("vectors_f16.npy")),
            queries: asked.lines().take(queries).map(|line| part(line, "text")).collect(),
            query_vectors: npy(&data.join("queries_f16.npy")),
            nearest: nearest.iter().map(|ids| ids[0] as u64).collect(),
        }
    }
}

/// The vectors of a `.npy` file of f16 rows, or the numbers of one of i32 rows, as f32.
fn npy(path: &Path) -> Vec<Vec<f32>> {
    let bytes = std::fs::read(path).expect("the file can be read");
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let text = String::from_utf8_lossy(&bytes[10..header]).into_owned();
    let columns = text
        .rsplit("), }")
        .nth(1)
        .and_then(|t| t.rsplit(", ").next())
        .expect("a shape");
    let columns: usize = columns.trim_end_matches(',').parse().expect("a number of columns");
    let numbers: Vec<f32> = match text.contains("<f2") {
        true => {
            let words = bytes[header..].as_chunks::<2>().0.iter();
            words.map(|w| half::f16::from_le_bytes(*w).to_f32()).collect()
        }
        false => {
            let words = bytes[header..].as_chunks::<4>().0.iter();
            words.map(|w| i32::from_le_bytes(*w) as f32).collect()
        }
    };
    numbers.chunks(columns).map(<[f32]>::to_vec).collect()
}
