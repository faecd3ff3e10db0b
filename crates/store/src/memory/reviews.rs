//! What people said about messages, short links, reviews and their counts.

use uzel_model::{Address, Id, Timestamp};

use super::rows::Rows;
use crate::{
    Consent, Contact, LeftReview, LinkNews, LinkPurpose, OptOut, Review, ReviewCount, ReviewFilter, ReviewReply, ShortLink,
    consent::weigh, review::Shift,
};

impl Rows {
    pub(super) fn put_word(&mut self, word: Consent) -> bool {
        if self.words.iter().any(|known| known.key == word.key) {
            return false;
        }
        let of = (word.merchant, word.address.clone());
        let erased_at = self.opted_out_at(word.merchant, &word.address);
        let weighed = weigh(self.contacts.get(&of).copied(), erased_at, &word);
        if let Some(contact) = weighed {
            self.forget_opt_out(word.merchant, &word.address);
            self.contacts.insert(of, contact);
        }
        self.words.push(word);
        weighed.is_some()
    }

    pub(super) fn words_of(&self, merchant: Id, address: &str, limit: usize) -> Vec<Consent> {
        let mut words: Vec<Consent> =
            self.words.iter().filter(|word| word.merchant == merchant && word.address == address).cloned().collect();
        words.sort_by(|a, b| b.at.cmp(&a.at).then(a.key.cmp(&b.key)));
        words.truncate(limit);
        words
    }

    pub(super) fn contact_of(&self, merchant: Id, address: &str) -> Contact {
        let known = self.contacts.get(&(merchant, address.to_owned()));
        let erased = || Contact { opted_out: self.opted_out_at(merchant, address).is_some(), ..Contact::default() };
        known.map_or_else(erased, |(contact, _)| *contact)
    }

    pub(super) fn opt_outs_of(&self, merchant: Id, after: &str, limit: usize) -> Vec<OptOut> {
        let of = self.contacts.iter().filter(|((of, address), (contact, _))| {
            *of == merchant && address.as_str() > after && (contact.opted_out || !contact.refused_channels().is_empty())
        });
        let mut found: Vec<OptOut> = of
            .map(|((_, address), (contact, since))| OptOut {
                address: address.clone(),
                channels: (!contact.opted_out).then(|| contact.refused_channels()),
                since: *since,
            })
            .collect();
        found.sort_by(|a, b| a.address.cmp(&b.address));
        found.truncate(limit);
        found
    }

    pub(super) fn add_link(&mut self, link: ShortLink) {
        if self.commands.contains_key(&link.command) {
            self.links.entry(link.code).or_insert(link);
        }
    }

    pub(super) fn hear(&mut self, code: [u8; 16], news: &LinkNews) {
        let Some(link) = self.links.get_mut(&code) else { return };
        let shifts = link.hear(news);
        let link = link.clone();
        self.count(&link, shifts);
    }

    fn count(&mut self, link: &ShortLink, shifts: Vec<Shift>) {
        for Shift { channel, what, by } in shifts {
            *self.review_counts.entry((link.merchant, link.day, link.outlet, link.source, channel, what)).or_default() += by;
        }
    }

    /// The link and the review as they stand after it; nothing where the review changed meanwhile.
    fn left(&self, left: &LeftReview) -> Option<(ShortLink, Review, Vec<Shift>)> {
        let mut link = self.links.get(&left.code).filter(|link| link.purpose == LinkPurpose::Review)?.clone();
        let before = link.review.and_then(|id| self.reviews.get(&id)).cloned();
        let (review, shifts) = link.review(before, left)?;
        Some((link, review, shifts))
    }

    pub(super) fn may_leave(&self, left: &LeftReview) -> bool {
        self.left(left).is_some()
    }

    pub(super) fn leave(&mut self, left: &LeftReview) {
        let Some((link, review, shifts)) = self.left(left) else { return };
        self.count(&link, shifts);
        self.links.insert(link.code, link);
        self.reviews.insert(review.id, review);
    }

    pub(super) fn may_reply(&self, reply: &ReviewReply) -> bool {
        self.reviews.get(&reply.review).is_some_and(|review| review.answer.is_none())
    }

    pub(super) fn reply(&mut self, reply: ReviewReply) {
        if let Some(review) = self.reviews.get_mut(&reply.review) {
            review.answer = Some(reply.answer);
        }
    }

    pub(super) fn short_link(&self, code: [u8; 16]) -> Option<(ShortLink, Option<Review>)> {
        let link = self.links.get(&code)?.clone();
        let review = link.review.and_then(|id| self.reviews.get(&id)).cloned();
        Some((link, review))
    }

    pub(super) fn reviews_of(&self, filter: &ReviewFilter) -> Vec<Review> {
        self.reviews.values().rev().filter(|review| filter.wants(review)).take(filter.limit).cloned().collect()
    }

    pub(super) fn review_counts_of(&self, merchant: Id, from: i32, to: i32) -> Vec<ReviewCount> {
        let mut sums: Vec<ReviewCount> = Vec::new();
        for ((of, day, outlet, source, channel, what), count) in &self.review_counts {
            if *of != merchant || !(from..=to).contains(day) {
                continue;
            }
            let same =
                |sum: &&mut ReviewCount| (sum.outlet, sum.source, sum.channel, &sum.what) == (*outlet, *source, *channel, what);
            match sums.iter_mut().find(same) {
                Some(sum) => sum.count += count,
                None => sums.push(ReviewCount {
                    outlet: *outlet,
                    source: *source,
                    channel: *channel,
                    what: what.clone(),
                    count: *count,
                }),
            }
        }
        let place = |count: &ReviewCount| (count.outlet, count.source, count.channel.name(), count.what.clone());
        sums.sort_by_key(place);
        sums
    }

    /// Forgets who left reviews and what they wrote and said.
    pub(super) fn forget_reviews(&mut self, merchant: Id, address: &str) {
        self.words.retain(|word| word.merchant != merchant || word.address != address);
        let is_theirs = |to: &Address| to.key() == address;
        self.links.retain(|_, link| link.merchant != merchant || !is_theirs(&link.to));
        let theirs = self.reviews.values_mut().filter(|review| review.merchant == merchant);
        for review in theirs.filter(|review| review.to.as_ref().is_some_and(is_theirs)) {
            review.forget();
            let kind = format!("comment/{}", review.id);
            self.notices.retain(|(.., known), _| *known != kind);
        }
    }

    pub(super) fn purge_reviews(&mut self, merchant: Option<Id>, before: Timestamp) {
        let stays = |of: Id| merchant.is_some_and(|merchant| merchant != of);
        self.links.retain(|_, link| link.expires_at >= before || stays(link.merchant));
        self.reviews.retain(|_, review| review.left_at >= before || stays(review.merchant));
    }
}
