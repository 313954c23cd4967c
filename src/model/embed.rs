//! Vectors that models make of texts: which models there are, which vectors are wanted, which were
//! made. Who makes them is `inference`'s matter.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::Invalid;

/// How many names an error lists.
const NAMES_SHOWN: usize = 20;

/// The embedding models that the operator configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Models {
    dims: BTreeMap<Arc<str>, u32>,
}

impl Models {
    /// * `dims` — name and dimensions of each model
    pub fn new(dims: impl IntoIterator<Item = (Arc<str>, u32)>) -> Self {
        Self {
            dims: dims.into_iter().collect(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.dims.is_empty()
    }

    /// The dimensions of a model's vectors.
    ///
    /// # Errors
    ///
    /// When there is no such model: what the operator can do.
    pub fn dims(&self, model: &str) -> Result<u32, Invalid> {
        if let Some(dims) = self.dims.get(model) {
            return Ok(*dims);
        }
        let shown: String = model.chars().take(128).collect();
        let names: Vec<&str> = self.dims.keys().take(NAMES_SHOWN).map(|n| &**n).collect();
        Err(Invalid::new(match names.is_empty() {
            true => format!(
                "no embedding model configured on this server, so {shown:?} cannot be used: its operator lists \
                 models in the setting \"models\" ([[models]])"
            ),
            false => format!(
                "embedding model {shown:?} is not configured on this server; there are {}. Its operator lists models \
                 in the setting \"models\" ([[models]])",
                names.join(", ")
            ),
        }))
    }

    /// Checks that a model can make vectors of so many dimensions.
    pub fn check_dims(&self, model: &str, dims: u32) -> Result<(), Invalid> {
        let most = self.dims(model)?;
        match (1..=most).contains(&dims) {
            true => Ok(()),
            false => Err(Invalid::new(format!(
                "embedding model {model:?} makes vectors of at most {most} dimensions, not {dims}"
            ))),
        }
    }
}

/// Texts that one model has to make vectors of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub model: Arc<str>,
    /// At most those of the model.
    pub dims: u32,
    /// Not blank, none twice, in the order of the rows.
    pub texts: Vec<String>,
}

/// What making vectors took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmbeddingUse {
    pub time: Duration,
    /// As the models counted them; 0 for models that do not.
    pub tokens: u64,
}

/// The models there are, and the vectors that they made for one request.
#[derive(Clone, Debug, Default)]
pub struct Embeddings {
    pub models: Arc<Models>,
    made: Vec<Made>,
    /// `None` when no model was asked.
    pub spent: Option<EmbeddingUse>,
}

#[derive(Clone, Debug)]
struct Made {
    model: Arc<str>,
    dims: u32,
    // Only looked up, never iterated: its order matters to nobody.
    vectors: HashMap<String, Arc<[f32]>>,
}

impl Embeddings {
    /// Models, and no vectors yet.
    pub fn of(models: Arc<Models>) -> Self {
        Self {
            models,
            ..Self::default()
        }
    }

    /// Adds the vectors of texts.
    ///
    /// * `vectors` — one per text, each of `wanted.dims` finite numbers
    pub fn add(&mut self, wanted: Wanted, vectors: Vec<Arc<[f32]>>) {
        assert_eq!(wanted.texts.len(), vectors.len(), "there is a vector for each text");
        self.made.push(Made {
            model: wanted.model,
            dims: wanted.dims,
            vectors: wanted.texts.into_iter().zip(vectors).collect(),
        });
    }

    /// The vector of a text, if it was made.
    pub fn get(&self, model: &str, dims: u32, text: &str) -> Option<&[f32]> {
        let mut of_model = self.made.iter().filter(|m| &*m.model == model && m.dims == dims);
        of_model.find_map(|m| m.vectors.get(text)).map(|v| &**v)
    }

    /// About how much memory the vectors and their texts hold, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        let of = |(text, vector): (&String, &Arc<[f32]>)| (text.len() + 4 * vector.len()) as u64;
        self.made.iter().flat_map(|m| m.vectors.iter().map(of)).sum()
    }
}

/// Whether there is anything to embed in a text: blank ones get no vector, as null ones do.
pub fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}
