//! What of the rows in segments a plan looks at. Pure: follows from the plan alone.

use std::collections::{BTreeMap, BTreeSet};

use super::compute;
use super::key::Source;
use super::plan::{Action, OrderTarget, Plan};
use crate::index::text::QueryTerm;
use crate::model::AttrId;
use crate::segment::TermWanted;

/// What has to be known of all rows, so that some of them can be chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    pub ids: bool,
    /// Columns, none of them of dense vectors.
    pub columns: BTreeSet<AttrId>,
    /// Text indexes, and the terms that they have to know.
    pub terms: BTreeMap<AttrId, BTreeSet<TermWanted>>,
}

/// What has to be known of the chosen rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RowNeeds {
    pub attributes: BTreeSet<AttrId>,
    /// Those of the attributes whose tokens are counted.
    pub texts: BTreeSet<AttrId>,
    /// Those of the attributes that are searched for tokens, which an index that was loaded for other terms does not know.
    pub searched: BTreeSet<AttrId>,
}

impl Needs {
    pub fn column(&mut self, attribute: AttrId) {
        self.columns.insert(attribute);
    }

    pub fn source(&mut self, source: Source) {
        match source.attribute() {
            None => self.ids = true,
            Some(attribute) => self.column(attribute),
        }
    }

    /// A text index that knows the terms.
    pub fn terms(&mut self, attribute: AttrId, terms: impl Iterator<Item = TermWanted>) {
        self.terms.entry(attribute).or_default().extend(terms);
    }

    /// A text index that knows the terms of a query, of which none may be left.
    pub fn text(&mut self, attribute: AttrId, terms: &[QueryTerm], prefix: Option<&str>) {
        let exact = terms.iter().map(|term| TermWanted::Exact(term.token.clone()));
        let prefix = prefix.map(|prefix| TermWanted::Prefix(prefix.to_owned()));
        self.terms(attribute, exact.chain(prefix));
    }
}

impl Plan {
    /// What choosing rows looks at, but for the filter and for dense vectors.
    pub(super) fn needs(&self) -> Needs {
        self.needs_of(true)
    }

    /// The same where it is known for which rows the filters hold that are clauses of a score.
    pub(super) fn needs_but_filters(&self) -> Needs {
        self.needs_of(false)
    }

    fn needs_of(&self, with_filters: bool) -> Needs {
        let mut needs = Needs::default();
        match &self.action {
            Action::Aggregate(asked) => {
                asked.sources().for_each(|source| needs.source(source));
                return needs;
            }
            Action::ExactNearest { .. } | Action::Lookup { .. } => {}
            Action::TextTopK { text } => text.needs(&mut needs),
            Action::ScoreTopK { score } if with_filters => score.needs(&mut needs),
            Action::ScoreTopK { score } => score.needs_but_filters(&mut needs),
            Action::OrderedScan { keys } => keys.iter().for_each(|key| match key.target {
                OrderTarget::Id => {}
                OrderTarget::Attribute(attribute) => needs.column(attribute),
            }),
        }
        // What breaks ties.
        needs.ids = true;
        if let Some(per) = &self.per {
            per.sources().for_each(|source| needs.source(source));
        }
        for (_, computed) in &self.compute {
            computed.statistics(&mut needs);
        }
        needs
    }

    /// What the rows of the answer are made of.
    pub(super) fn row_needs(&self) -> RowNeeds {
        let mut needs = RowNeeds {
            attributes: self.projection.iter().map(|p| p.id).collect(),
            ..RowNeeds::default()
        };
        self.compute
            .iter()
            .for_each(|(_, computed)| computed.values(&mut needs));
        needs
    }
}

impl compute::Bound {
    /// Adds the text indexes whose statistics are looked at.
    fn statistics(&self, needs: &mut Needs) {
        let mut all = Needs::default();
        match self {
            compute::Bound::Distance(_) | compute::Bound::Filter(_) => {}
            compute::Bound::Score(score) => score.needs(&mut all),
            compute::Bound::Highlight(highlight) => highlight.needs(&mut all),
        }
        for (attribute, terms) in all.terms {
            needs.terms(attribute, terms.into_iter());
        }
    }

    /// Adds the attributes of a row that its value depends on.
    fn values(&self, needs: &mut RowNeeds) {
        let mut all = Needs::default();
        match self {
            compute::Bound::Distance(vectors) => all.column(vectors.attribute()),
            compute::Bound::Highlight(highlight) => all.column(highlight.attribute()),
            compute::Bound::Filter(filter) => {
                filter.values(&mut all);
                filter.searched(&mut needs.searched);
            }
            compute::Bound::Score(score) => {
                score.needs(&mut all);
                let attributes = std::mem::take(&mut all.terms).into_keys();
                for attribute in attributes {
                    all.column(attribute);
                    needs.texts.insert(attribute);
                }
            }
        }
        needs.attributes.extend(all.columns);
    }
}
