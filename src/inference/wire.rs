//! The JSON that models read and write. Answers are checked number by number.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Vectors;

/// Room in an answer for what is neither numbers nor documents.
const SPARE_BYTES: usize = 64 << 10;
/// The longest way to write a number that a model may use, with what separates it from the next.
const NUMBER_BYTES: usize = 40;

#[derive(Serialize)]
struct EmbeddingRequest<'a> {
    model: &'a str,
    input: &'a [&'a str],
    encoding_format: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u32>,
}

/// Asks for vectors of texts.
///
/// * `dims` — `None` for those that the model makes when it is not told
pub(super) fn embedding_request(model: &str, texts: &[&str], dims: Option<u32>) -> Vec<u8> {
    let request = EmbeddingRequest {
        model,
        input: texts,
        encoding_format: "float",
        dimensions: dims,
    };
    serde_json::to_vec(&request).expect("strings and numbers are valid JSON")
}

/// The longest answer to take for so many vectors.
pub(super) fn embedding_bytes_max(count: usize, dims: u32) -> usize {
    SPARE_BYTES + count * (dims as usize * NUMBER_BYTES + 1024)
}

#[derive(Deserialize)]
struct EmbeddingAnswer {
    data: Vec<Item>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Item {
    index: Option<usize>,
    embedding: Vec<f64>,
}

#[derive(Deserialize)]
struct Usage {
    total_tokens: Option<u64>,
    prompt_tokens: Option<u64>,
}

/// Reads `count` vectors of `dims` numbers, in the order of the texts.
///
/// # Errors
///
/// What is wrong with the answer.
pub(super) fn embeddings(answer: &[u8], count: usize, dims: u32) -> Result<Vectors, String> {
    let EmbeddingAnswer { data, usage } = serde_json::from_slice(answer).map_err(not_json)?;
    if data.len() != count {
        return Err(format!("it has {} vectors for {count} texts", data.len()));
    }
    let mut vectors: Vec<Option<Arc<[f32]>>> = vec![None; count];
    for (at, item) in data.into_iter().enumerate() {
        let index = item.index.unwrap_or(at);
        let slot = vectors.get_mut(index).filter(|slot| slot.is_none());
        let slot = slot.ok_or_else(|| format!("it has no or two vectors for a text: index {index}"))?;
        *slot = Some(checked(&item.embedding, dims)?);
    }
    let usage = usage.and_then(|u| u.total_tokens.or(u.prompt_tokens));
    Ok(Vectors {
        vectors: vectors.into_iter().flatten().collect(),
        tokens: usage.unwrap_or(0),
    })
}

fn checked(numbers: &[f64], dims: u32) -> Result<Arc<[f32]>, String> {
    if numbers.len() != dims as usize {
        return Err(format!("it has a vector of {} dimensions, not {dims}", numbers.len()));
    }
    let vector: Arc<[f32]> = numbers.iter().map(|x| *x as f32).collect();
    match vector.iter().all(|x| x.is_finite()) {
        true => Ok(vector),
        false => Err("it has a vector with an element beyond the range of f32".to_owned()),
    }
}

#[derive(Serialize)]
struct RerankRequest<'a> {
    model: &'a str,
    query: &'a str,
    documents: &'a [&'a str],
    top_n: usize,
}

/// Asks for a judgement of every document.
pub(super) fn rerank_request(model: &str, query: &str, documents: &[&str]) -> Vec<u8> {
    let request = RerankRequest {
        model,
        query,
        documents,
        top_n: documents.len(),
    };
    serde_json::to_vec(&request).expect("strings and numbers are valid JSON")
}

/// The longest answer to take: some models repeat the documents, with every character escaped.
pub(super) fn rerank_bytes_max(documents: &[&str]) -> usize {
    SPARE_BYTES + documents.iter().map(|d| 6 * d.len() + 1024).sum::<usize>()
}

#[derive(Deserialize)]
struct RerankAnswer {
    results: Vec<Judged>,
}

#[derive(Deserialize)]
struct Judged {
    index: usize,
    relevance_score: f64,
}

/// Reads `count` scores, in the order of the documents. Errors as of [`embeddings`].
pub(super) fn scores(answer: &[u8], count: usize) -> Result<Vec<f64>, String> {
    let RerankAnswer { results } = serde_json::from_slice(answer).map_err(not_json)?;
    if results.len() != count {
        return Err(format!("it has {} scores for {count} documents", results.len()));
    }
    let mut scores = vec![None; count];
    for Judged { index, relevance_score } in results {
        let slot = scores.get_mut(index).filter(|slot| slot.is_none());
        let slot = slot.ok_or_else(|| format!("it has no or two scores for a document: index {index}"))?;
        *slot = Some(relevance_score);
    }
    match scores.iter().flatten().all(|score| score.is_finite()) {
        true => Ok(scores.into_iter().flatten().collect()),
        false => Err("it has a score that is not finite".to_owned()),
    }
}

fn not_json(error: serde_json::Error) -> String {
    format!("it does not have the documented shape: {error}")
}
