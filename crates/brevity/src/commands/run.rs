//! `brevity run`: generate, or chat.

use crate::cli::{Global, RunArgs};
use crate::generate::{Ended, Generator, Limits};
use crate::progress::Show;
use crate::{cache_budget, context as kept, open, output, prompt};
use anyhow::{Context, Result, bail};
use brevity_cache::Spec;
use brevity_measure::bits::format_bytes;
use brevity_model::ModelSource;
use brevity_model::chat::{ChatTemplate, Message};
use brevity_model::forward::{Model, Options};
use brevity_model::sampler::SamplerOptions;
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::time::Instant;

/// Runs the command.
pub fn run(args: RunArgs, global: &Global) -> Result<()> {
    let show = Show::choose(global.quiet || global.json);
    let base = Spec::parse(&args.cache).context("--cache")?;
    let source = open::open_within(args.model.as_deref(), args.size.as_deref(), show)?;
    let model = Model::load(&source, Options { activation: args.activations.into(), ..Options::default() })?;
    let context = context(&args, &source)?;
    let spec =
        cache_budget::spec(&source, base, args.cache_budget.as_deref(), planned(&args, &source, context)?, show)?;
    let spec = spec.learnt(&model)?;
    let mut generator = Generator::new(&model, source.tokenizer()?, sampling(&args), context, &spec)?;
    if args.chat {
        let turns = chat(&args, &source, &mut generator, (global.json, show))?;
        return if global.json { output::json(&json!({"model": source.label(), "turns": turns})) } else { Ok(()) };
    }
    let prompt = given(&args)?;
    let loaded = args.cache_load.as_deref().map(|path| load(path, &source, &spec, &mut generator)).transpose()?;
    let tokens = match &loaded {
        Some(loaded) => [loaded.tokens.as_slice(), &source.tokenizer()?.encode(&prompt, false, true)].concat(),
        None => prompt::tokens(source.tokenizer()?, &prompt, !args.no_bos),
    };
    generator.check(&tokens)?;
    let limits = Limits { tokens: args.n, stop: &args.stop };
    let mut out = std::io::stdout().lock();
    if !global.json {
        write!(out, "{prompt}")?;
        out.flush()?;
    }
    let result = generator.answer(&tokens, &limits, |text| {
        if !global.json {
            write!(out, "{text}")?;
            out.flush()?;
        }
        Ok(())
    })?;
    drop(out);
    if global.json {
        return output::json(&json!({
            "model": source.label(), "prompt": prompt, "text": result.text, "tokens": result.tokens,
            "prompt_tokens": tokens.len(), "cache": spec.to_string(), "cache_bytes": generator.cache_bytes(), "ended": result.ended.name(),
            "prefill_tokens_per_second": result.prefill_speed(), "decode_tokens_per_second": result.decode_speed(),
            "loaded_tokens": loaded.as_ref().map(|loaded| loaded.tokens.len()),
            "load_seconds": loaded.as_ref().map(|loaded| loaded.seconds),
        }));
    }
    output::line("")?;
    if let Some(loaded) = &loaded {
        show.remark(&format!("{} tokens of context loaded in {:.2} s", loaded.tokens.len(), loaded.seconds));
    }
    show.remark(&format!(
        "{} tokens read at {:.1}/s, {} written at {:.1}/s; the cache ({spec}) holds {}; ended: {}",
        tokens.len() - loaded.as_ref().map_or(0, |loaded| loaded.tokens.len()),
        result.prefill_speed(),
        result.tokens.len(),
        result.decode_speed(),
        format_bytes(generator.cache_bytes()),
        result.ended.name(),
    ));
    Ok(())
}

/// A context from a file.
struct Loaded {
    tokens: Vec<u32>,
    seconds: f64,
}

fn load(path: &Path, source: &ModelSource, spec: &Spec, generator: &mut Generator) -> Result<Loaded> {
    let started = Instant::now();
    let (file, context) = kept::open(path, source)?;
    generator.load(&file.tokens, &context, spec)?;
    Ok(Loaded { tokens: file.tokens, seconds: started.elapsed().as_secs_f64() })
}

fn sampling(args: &RunArgs) -> SamplerOptions {
    SamplerOptions {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        repetition_penalty: args.repetition_penalty,
        seed: args.seed,
        ..SamplerOptions::default()
    }
}

/// Tokens that a budget is for: those of the prompt and the answer where both are known, the context where not.
fn planned(args: &RunArgs, source: &ModelSource, context: usize) -> Result<usize> {
    if args.cache_budget.is_none() || args.ctx.is_some() || args.chat || args.cache_load.is_some() {
        return Ok(context);
    }
    let prompt = prompt::tokens(source.tokenizer()?, &given(args)?, !args.no_bos);
    Ok((prompt.len() + args.n).min(context))
}

fn context(args: &RunArgs, source: &ModelSource) -> Result<usize> {
    let most = source.config().context;
    match args.ctx {
        Some(0) => bail!("--ctx 0 holds nothing"),
        Some(ctx) if ctx > most => bail!("--ctx {ctx}: the model was made for {most} tokens at most"),
        Some(ctx) => Ok(ctx),
        None => Ok(most),
    }
}

fn given(args: &RunArgs) -> Result<String> {
    match args.prompt.as_deref() {
        None => bail!("nothing to go on from\n  next: give a prompt with -p, or talk with --chat"),
        Some(text) => prompt::read(text),
    }
}

/// How a conversation becomes text: the model's template, or a plain one for models that have none.
enum Form {
    Template(Box<ChatTemplate>),
    Plain,
}

impl Form {
    fn of(source: &ModelSource, show: Show) -> Result<Self> {
        let tokenizer = source.tokenizer()?;
        if tokenizer.chat_template().is_none() {
            show.remark("this model has no chat template: plain \"User:\" and \"Assistant:\" lines are used");
            return Ok(Form::Plain);
        }
        Ok(Form::Template(Box::new(ChatTemplate::of(tokenizer)?)))
    }

    fn render(&self, messages: &[Message]) -> Result<String> {
        match self {
            Form::Template(template) => Ok(template.render(messages, true)?),
            Form::Plain => {
                let line = |message: &Message| match message.role.as_str() {
                    "user" => format!("User: {}\n", message.content),
                    "assistant" => format!("Assistant: {}\n", message.content),
                    _ => format!("{}\n", message.content),
                };
                Ok(messages.iter().map(line).collect::<String>() + "Assistant:")
            }
        }
    }

    fn stops(&self, given: &[String]) -> Vec<String> {
        match self {
            Form::Template(_) => given.to_vec(),
            Form::Plain => [given, &["\nUser:".to_string()]].concat(),
        }
    }
}

/// Talks until the input ends; returns the turns.
fn chat(
    args: &RunArgs,
    source: &ModelSource,
    generator: &mut Generator,
    (quiet, show): (bool, Show),
) -> Result<Vec<Value>> {
    let form = Form::of(source, show)?;
    let stops = form.stops(&args.stop);
    let mut messages: Vec<Message> = args.system.iter().map(|text| Message::new("system", text)).collect();
    let mut first = args.prompt.as_ref().map(|_| given(args)).transpose()?;
    let interactive = std::io::stdin().is_terminal() && !quiet;
    let mut turns = Vec::new();
    loop {
        let Some(said) = first.take().map_or_else(|| read_turn(interactive), |text| Ok(Some(text)))? else {
            return Ok(turns);
        };
        if said.trim().is_empty() {
            continue;
        }
        messages.push(Message::new("user", said.trim_end()));
        let started = Instant::now();
        let text = form.render(&messages)?;
        let bos = matches!(form, Form::Plain) && !args.no_bos;
        let tokens = source.tokenizer()?.encode(&text, bos, true);
        let limits = Limits { tokens: args.n, stop: &stops };
        let mut out = std::io::stdout().lock();
        let result = generator.answer(&tokens, &limits, |text| {
            if !quiet {
                write!(out, "{text}")?;
                out.flush()?;
            }
            Ok(())
        })?;
        if !quiet {
            writeln!(out)?;
        }
        drop(out);
        let seconds = started.elapsed().as_secs_f64();
        show.remark(&format!("[{} tokens in {seconds:.1} s, {:.1}/s]", result.tokens.len(), result.decode_speed()));
        turns.push(json!({
            "said": said.trim_end(), "text": result.text, "ended": result.ended.name(), "prompt_tokens": tokens.len(),
            "prefill_tokens_per_second": result.prefill_speed(), "decode_tokens_per_second": result.decode_speed(),
        }));
        messages.push(Message::new("assistant", result.text.trim()));
        if result.ended == Ended::Stopped {
            return Ok(turns);
        }
    }
}

fn read_turn(interactive: bool) -> Result<Option<String>> {
    if interactive {
        let mut out = std::io::stdout().lock();
        write!(out, "> ")?;
        out.flush()?;
    }
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line).context("reading standard input")?;
    Ok((read > 0).then_some(line))
}
