mod analysis;
mod collection;
mod scoring;

use std::sync::Arc;

use arrow::array::{ArrayRef, LargeStringArray, LargeStringBuilder, ListBuilder};

use crate::model::FullTextConfig;
use crate::model::schema::Tokenizer;

fn pre_tokenized() -> FullTextConfig {
    FullTextConfig {
        tokenizer: Tokenizer::PreTokenizedArray,
        case_sensitive: true,
        ..FullTextConfig::default()
    }
}

fn text_column(texts: &[Option<&str>]) -> ArrayRef {
    Arc::new(LargeStringArray::from(texts.to_vec()))
}

fn token_column<S: AsRef<str>>(rows: impl IntoIterator<Item = Option<Vec<S>>>) -> ArrayRef {
    let mut builder = ListBuilder::new(LargeStringBuilder::new());
    for row in rows {
        match row {
            Some(tokens) => builder.append_value(tokens.iter().map(|t| Some(t.as_ref()))),
            None => builder.append_null(),
        }
    }
    Arc::new(builder.finish())
}
