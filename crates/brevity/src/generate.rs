//! Generating text token by token, with what a terminal and a server need: streaming, stops, the cache kept between turns.

use crate::stop;
use anyhow::{Result, bail};
use brevity_cache::Spec;
use brevity_cache::disk::Context;
use brevity_model::cache::KvCache;
use brevity_model::forward::{Logits, Model, Sequence};
use brevity_model::sampler::{Sampler, SamplerOptions};
use brevity_model::tokenizer::Tokenizer;
use std::time::Instant;

/// When to end.
pub struct Limits<'a> {
    pub tokens: usize,
    /// Texts that end generation; they are not part of the result.
    pub stop: &'a [String],
}

/// Why it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// So many tokens were asked for.
    Length,
    /// The model said that it is done.
    EndOfText,
    /// One of the texts to stop at.
    StopText,
    /// No room is left in the context.
    Context,
    /// The user.
    Stopped,
}

impl Ended {
    pub fn name(self) -> &'static str {
        match self {
            Ended::Length => "length",
            Ended::EndOfText => "end of text",
            Ended::StopText => "stop text",
            Ended::Context => "context is full",
            Ended::Stopped => "stopped",
        }
    }
}

/// What was generated, and how fast.
pub struct Generated {
    pub text: String,
    pub tokens: Vec<u32>,
    pub ended: Ended,
    prefilled: usize,
    prefill_seconds: f64,
    decode_seconds: f64,
}

impl Generated {
    /// Tokens of prompt a second.
    pub fn prefill_speed(&self) -> f64 {
        self.prefilled as f64 / self.prefill_seconds.max(1e-9)
    }

    /// Generated tokens a second.
    pub fn decode_speed(&self) -> f64 {
        self.tokens.len() as f64 / self.decode_seconds.max(1e-9)
    }
}

/// A model with one conversation's memory.
pub struct Generator<'a> {
    model: &'a Model,
    tokenizer: &'a Tokenizer,
    options: SamplerOptions,
    cache: Box<dyn KvCache>,
    /// Tokens that the cache holds.
    held: Vec<u32>,
    context: usize,
}

impl<'a> Generator<'a> {
    /// A generator with an empty memory of `context` tokens.
    ///
    /// # Errors
    /// If the context is longer than the model's, or a sampling option is out of range.
    pub fn new(
        model: &'a Model,
        tokenizer: &'a Tokenizer,
        options: SamplerOptions,
        context: usize,
        cache: &Spec,
    ) -> Result<Self> {
        Sampler::new(options.clone())?;
        let cache = Box::new(cache.cache(model.config(), context)?);
        Ok(Self { model, tokenizer, options, cache, held: Vec::new(), context })
    }

    /// Generates after `prompt`, forgetting what was before.
    ///
    /// # Errors
    /// If the prompt is empty or does not fit the context.
    pub fn go_on(
        &mut self,
        prompt: &[u32],
        limits: &Limits,
        show: impl FnMut(&str) -> Result<()>,
    ) -> Result<Generated> {
        self.keep(0)?;
        self.answer(prompt, limits, show)
    }

    /// Generates after `prompt`; what it has in common with the memory is not computed again.
    ///
    /// # Errors
    /// As [`Self::go_on`].
    pub fn answer(
        &mut self,
        prompt: &[u32],
        limits: &Limits,
        mut show: impl FnMut(&str) -> Result<()>,
    ) -> Result<Generated> {
        self.check(prompt)?;
        let common = prompt.iter().zip(&self.held).take_while(|(a, b)| a == b).count().min(prompt.len() - 1);
        let common = self.keep(common)?;
        let started = Instant::now();
        let mut logits = self.forward(&prompt[common..])?;
        self.cache.end_prompt()?;
        let prefill_seconds = started.elapsed().as_secs_f64();
        let mut sampler = Sampler::new(self.options.clone())?;
        prompt.iter().for_each(|&token| sampler.accept(token));
        let mut text = StopText::new(limits.stop);
        let mut stream = self.tokenizer.stream(false);
        let mut tokens = Vec::new();
        let started = Instant::now();
        let ended = loop {
            if stop::requested() {
                break Ended::Stopped;
            }
            if tokens.len() == limits.tokens {
                break Ended::Length;
            }
            let token = sampler.sample(&logits)?;
            if self.tokenizer.is_eog(token) {
                break Ended::EndOfText;
            }
            tokens.push(token);
            show(text.push(&stream.push(token)))?;
            if text.found {
                break Ended::StopText;
            }
            if self.held.len() + 1 >= self.context {
                break Ended::Context;
            }
            if tokens.len() < limits.tokens {
                logits = self.forward(&[token])?;
            }
        };
        if !text.found {
            text.push(&stream.finish());
            show(text.finish())?;
        }
        Ok(Generated {
            text: text.shown,
            tokens,
            ended,
            prefilled: prompt.len() - common,
            prefill_seconds,
            decode_seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Remembers a context as if it had been read.
    ///
    /// # Errors
    /// If it does not fit, or the cache cannot take it.
    pub fn load(&mut self, tokens: &[u32], context: &Context, spec: &Spec) -> Result<()> {
        self.check(tokens)?;
        self.cache = Box::new(context.cache(spec, self.model.config(), self.context)?);
        self.held = tokens.to_vec();
        Ok(())
    }

    /// Refuses a prompt that is empty or leaves no room to answer.
    ///
    /// # Errors
    /// As said.
    pub fn check(&self, prompt: &[u32]) -> Result<()> {
        let (found, room) = (prompt.len(), self.context);
        match found {
            0 => bail!(
                "the prompt is empty, and this model has no token to begin a text with\n  next: give a prompt with -p"
            ),
            _ if found >= room => bail!(
                "the prompt is too long: {found} of the context's {room} tokens, so that none is left to answer\n  next: \
                 shorten it, or raise --ctx where the model allows it"
            ),
            _ => Ok(()),
        }
    }

    /// Bytes that keys and values take now.
    pub fn cache_bytes(&self) -> u64 {
        self.cache.bytes()
    }

    /// Goes back to the first tokens, or to none where a cache has dropped some of them; returns how many are left.
    fn keep(&mut self, tokens: usize) -> Result<usize> {
        let left = if self.cache.truncate(tokens).is_ok() { tokens } else { 0 };
        if left < tokens {
            self.cache.truncate(0)?;
        }
        self.held.truncate(left);
        Ok(left)
    }

    fn forward(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let mut batch = [Sequence { tokens, cache: &mut *self.cache }];
        let logits = self.model.forward(&mut batch, Logits::Last, None)?;
        self.held.extend(tokens);
        Ok(logits.into_vec())
    }
}

/// Holds back text that may be the beginning of a stop.
struct StopText<'a> {
    stops: &'a [String],
    shown: String,
    held: String,
    last: String,
    found: bool,
}

impl<'a> StopText<'a> {
    fn new(stops: &'a [String]) -> Self {
        Self { stops, shown: String::new(), held: String::new(), last: String::new(), found: false }
    }

    /// Adds text and returns what can be shown now.
    fn push(&mut self, text: &str) -> &str {
        self.held.push_str(text);
        let first =
            self.stops.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| self.held.find(stop.as_str())).min();
        self.found |= first.is_some();
        let safe = first.unwrap_or_else(|| self.held.len() - self.beginning());
        self.release(safe)
    }

    /// Returns what is still held.
    fn finish(&mut self) -> &str {
        self.release(self.held.len())
    }

    fn release(&mut self, bytes: usize) -> &str {
        self.last = self.held.drain(..bytes).collect();
        self.shown.push_str(&self.last);
        &self.last
    }

    /// Length of the longest end of the held text that begins a stop.
    fn beginning(&self) -> usize {
        let longest = |stop: &String| {
            let starts = |length: &usize| stop.is_char_boundary(*length) && self.held.ends_with(&stop[..*length]);
            (1..stop.len()).rev().find(starts).unwrap_or(0)
        };
        self.stops.iter().map(longest).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let stops: Vec<String> = stops.iter().map(|stop| stop.to_string()).collect();
        let mut text = StopText::new(&stops);
        for piece in pieces {
            text.push(piece);
            if text.found {
                return (text.shown, true);
            }
        }
        text.finish();
        (text.shown, false)
    }

    #[test]
    fn stops_are_found_across_pieces_and_never_shown() {
        assert_eq!(run(&["END"], &["one E", "N", "D two"]), ("one ".into(), true));
        assert_eq!(run(&["END"], &["one E", "NX", " two"]), ("one ENX two".into(), false));
        assert_eq!(run(&["\nUser:"], &["hi\n", "Us", "er: x"]), ("hi".into(), true));
        assert_eq!(run(&[], &["a", "b"]), ("ab".into(), false));
        assert_eq!(run(&["é!"], &["caf", "é", "?"]), ("café?".into(), false));
    }
}
