//! Vectors of texts, made before a write queues up and before a query is planned.
//!
//! A model takes a hundred times as long as a commit, so that it is never asked inside the commit
//! loop: a write comes there with its vectors, which serve again should its body be prepared anew
//! because a rival changed the schema.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::try_join_all;

use super::commit::Failure;
use super::handle::Handle;
use super::{Body, Engine};
use crate::base::Priority;
use crate::error::{Error, ErrorKind, Result};
use crate::model::embed::{EmbeddingUse, Embeddings, is_blank};
use crate::model::query::{Compute, VectorQuery};
use crate::model::write::{self, Write};
use crate::model::{AttrType, Consistency, Invalid, NamespaceName, Query, RankBy, Schema};

/// The answer to a write whose texts turn out to need other vectors than those that were made.
pub(super) fn outdated() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "what is embedded in this namespace changed while vectors were made for this write; nothing was written, try \
         again",
    )
}

impl Engine {
    /// No vectors yet.
    pub(super) fn no_embeddings(&self) -> Arc<Embeddings> {
        Arc::new(Embeddings::of(self.inner.options.inference.models().clone()))
    }

    /// Has the vectors made that a write lacks, and prepares its body again with them.
    ///
    /// Costs no request to the store.
    pub(super) async fn embed(&self, body: &Body, write: Write) -> Result<Write> {
        let inner = &self.inner;
        let begin = inner.runtime.clock.boot();
        let inference = &inner.options.inference;
        let answers = write.wanted.iter().map(|wanted| async move {
            let made = inference.embed(&wanted.model, wanted.dims, &wanted.texts).await?;
            Ok::<_, Error>((wanted.clone(), made))
        });
        let mut embeddings = Embeddings::of(inference.models().clone());
        let mut tokens = 0;
        for (wanted, made) in try_join_all(answers).await? {
            tokens += made.tokens;
            embeddings.add(wanted, made.vectors);
        }
        embeddings.spent = Some(EmbeddingUse {
            time: inner.runtime.clock.boot().saturating_sub(begin),
            tokens,
        });
        let (bytes, options, embeddings) = (body.bytes.clone(), inner.options.clone(), Arc::new(embeddings));
        let prepare = move || write::prepare_with(&bytes, write.basis.schema(), &options.limits, &embeddings);
        Ok(inner.runtime.cpu.run(Priority::Foreground, prepare).await?)
    }

    /// Puts vectors in the place of the texts that queries are to be embedded from.
    ///
    /// Costs nothing without such texts; else one GET, shared, for a strong read: which model fills
    /// a column is looked up in the newest schema.
    pub(super) async fn embed_queries(
        &self,
        handle: &Handle,
        name: &NamespaceName,
        queries: &Arc<[Query]>,
        consistency: Consistency,
    ) -> Result<(Arc<[Query]>, Option<EmbeddingUse>), Failure> {
        if !queries.iter().any(has_text) {
            return Ok((queries.clone(), None));
        }
        let mut embedded: Vec<Query> = queries.to_vec();
        let mut current = consistency == Consistency::Strong || !handle.is_proven() || handle.is_behind();
        if current {
            handle.probe().await?;
        }
        loop {
            match self.sources(handle, name, &mut embedded).await {
                Ok(sources) => return Ok(self.embed_texts(embedded, sources).await?),
                Err(error) if current => return Err(error.into()),
                // "No" may be outdated.
                Err(_) => handle.probe().await?,
            };
            current = true;
        }
    }

    /// The model and the dimensions for each text.
    async fn sources(&self, handle: &Handle, name: &NamespaceName, queries: &mut [Query]) -> Result<Vec<Source>> {
        let snapshot = handle.snapshot();
        let view = self.view(name, &snapshot).await?;
        let models = self.inner.options.inference.models();
        let mut sources = Vec::new();
        for (attribute, query) in texts(queries) {
            let source = Source::of(attribute, query, view.schema())?;
            models.check_dims(&source.model, source.dims)?;
            sources.push(source);
        }
        Ok(sources)
    }

    async fn embed_texts(
        &self,
        mut queries: Vec<Query>,
        sources: Vec<Source>,
    ) -> Result<(Arc<[Query]>, Option<EmbeddingUse>)> {
        let clock = &self.inner.runtime.clock;
        let begin = clock.boot();
        let inference = &self.inner.options.inference;
        // Each text once, however many queries have it.
        let distinct: BTreeMap<&Source, ()> = sources.iter().map(|source| (source, ())).collect();
        let made = distinct.into_keys().map(|source| async move {
            let made = inference.embed_query(&source.model, source.dims, &source.text).await?;
            Ok::<_, Error>((source, made))
        });
        let made: BTreeMap<_, _> = try_join_all(made).await?.into_iter().collect();
        let asked: Vec<u64> = made.values().filter_map(|(_, tokens)| *tokens).collect();
        for ((_, query), source) in texts(&mut queries).into_iter().zip(&sources) {
            *query = VectorQuery::One(made[source].0.to_vec());
        }
        let spent = EmbeddingUse {
            time: clock.boot().saturating_sub(begin),
            tokens: asked.iter().sum(),
        };
        Ok((queries.into(), (!asked.is_empty()).then_some(spent)))
    }
}

/// A text with what makes a vector of it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    model: String,
    dims: u32,
    text: String,
}

impl Source {
    fn of(attribute: &str, query: &VectorQuery, schema: &Schema) -> Result<Self, Invalid> {
        let VectorQuery::Embed { text, model } = query else {
            panic!("only texts are embedded");
        };
        let column = schema.require(attribute)?;
        let AttrType::Vector { dims, .. } = column.ty else {
            return Err(Invalid::new(format!(
                "Embed needs a vector attribute such as [768]f32, and {attribute:?} is {}",
                column.ty
            )));
        };
        if is_blank(text) {
            return Err(Invalid::new("Embed: the text must not be blank"));
        }
        let filled_by = || schema.embeds().find(|(_, embed)| *embed.target == *attribute);
        let model = model.clone().or_else(|| filled_by().map(|(_, e)| e.model.to_string()));
        let model = model.ok_or_else(|| {
            Invalid::new(format!(
                "Embed: no attribute is embedded into {attribute:?}, so the model has to be named: \
                 [\"Embed\", text, {{\"model\": name}}]"
            ))
        })?;
        Ok(Self {
            model,
            dims,
            text: text.clone(),
        })
    }
}

/// Whether a query has a text to be embedded.
fn has_text(query: &Query) -> bool {
    let ranked = match &query.rank_by {
        Some(RankBy::Nearest { query, .. }) => Some(query),
        _ => None,
    };
    let computed = query.compute.iter().filter_map(|(_, compute)| match compute {
        Compute::VectorDistance { query, .. } => Some(query),
        _ => None,
    });
    let mut all = ranked.into_iter().chain(computed);
    all.any(|query| matches!(query, VectorQuery::Embed { .. }))
}

/// The texts to be embedded, each with the attribute that its vector is compared with.
fn texts(queries: &mut [Query]) -> Vec<(&str, &mut VectorQuery)> {
    let mut found = Vec::new();
    for query in queries {
        if let Some(RankBy::Nearest { attribute, query, .. }) = &mut query.rank_by {
            found.push((attribute.as_str(), query));
        }
        for (_, compute) in &mut query.compute {
            if let Compute::VectorDistance { attribute, query } = compute {
                found.push((attribute.as_str(), query));
            }
        }
    }
    found.retain(|(_, query)| matches!(query, VectorQuery::Embed { .. }));
    found
}
