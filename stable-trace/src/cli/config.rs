//! Options from the environment and from the file of `--config`, by the names of the flags. A flag wins, then the
//! environment, then the file.

use std::{
    ffi::OsString,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use clap::{Arg, ArgAction, Command, CommandFactory as _, FromArgMatches as _};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{Location, Spanned};

use super::options::Cli;

/// How the names of variables begin: `STABLE_TRACE_MIN_LATENCY` stands for `--min-latency`.
const PREFIX: &str = "STABLE_TRACE_";

/// The option that names the file. It has a variable, but no place in the file.
const CONFIG: &str = "config";

/// The commands that take the options of a file, beside the one without a name.
const TRACING: [&str; 4] = ["trace", "top", "run", "wac"];

/// Why a file of options is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot read the configuration", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the kernel.
        #[source]
        source: io::Error,
    },
    /// The file is not valid YAML, names no option, or has a value that the option refuses.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Position and problem, on one line.
        reason: String,
    },
}

/// Why there are no options to run with.
#[derive(Debug)]
pub(super) enum OptionsError {
    /// The command line or the environment is wrong, or asks for help.
    Usage(clap::Error),
    /// The file is wrong.
    Config(ConfigError),
}

impl From<clap::Error> for OptionsError {
    fn from(error: clap::Error) -> Self {
        Self::Usage(error)
    }
}

/// Parses the command line, and adds what the environment and the file have beside it.
pub(super) fn options(
    arguments: impl IntoIterator<Item = OsString> + Clone,
) -> Result<Cli, OptionsError> {
    let command = with_variables(Cli::command());
    let matches = command.clone().try_get_matches_from(arguments.clone())?;
    let own = matches.subcommand().map_or(&matches, |(_, own)| own);
    let Some(path) = own.try_get_one::<PathBuf>(CONFIG).ok().flatten() else {
        return Ok(Cli::from_arg_matches(&matches)?);
    };
    let settings = read(path).map_err(OptionsError::Config)?;
    let matches = with_settings(command, &settings).try_get_matches_from(arguments)?;
    Ok(Cli::from_arg_matches(&matches)?)
}

/// Checks a file.
pub(super) fn check(path: &Path) -> Result<(), ConfigError> {
    read(path).map(drop)
}

/// The options that a file may have.
fn allowed() -> Vec<Arg> {
    let command = Cli::command();
    let named = command.get_arguments().filter(|arg| arg.get_long().is_some());
    named.filter(|arg| arg.get_id() != CONFIG).cloned().collect()
}

/// Adds a variable to each option of tracing commands.
fn with_variables(command: Command) -> Command {
    let names: Vec<_> = Cli::command()
        .get_arguments()
        .filter_map(|arg| Some((arg.get_id().clone(), arg.get_long()?.to_owned())))
        .collect();
    change(command, |arg| match names.iter().find(|(id, _)| id == arg.get_id()) {
        Some((_, long)) => {
            let variable = format!("{PREFIX}{}", long.to_ascii_uppercase().replace('-', "_"));
            arg.env(variable).hide_env(true)
        }
        None => arg,
    })
}

/// Makes the settings of a file the defaults of its options.
fn with_settings(command: Command, settings: &[Setting]) -> Command {
    change(command, |arg| {
        let setting = settings.iter().find(|setting| setting.option.get_id() == arg.get_id());
        match setting {
            Some(setting) => arg.default_values(setting.values.clone()),
            None => arg,
        }
    })
}

/// Changes the options of tracing commands.
fn change(command: Command, change: impl Fn(Arg) -> Arg) -> Command {
    command.mut_args(&change).mut_subcommands(|own| {
        if TRACING.contains(&own.get_name()) { own.mut_args(&change) } else { own }
    })
}

/// An option, and its values in a file.
struct Setting {
    option: Arg,
    values: Vec<String>,
}

fn read(path: &Path) -> Result<Vec<Setting>, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    settings(&text).map_err(|reason| ConfigError::Invalid { path: path.to_owned(), reason })
}

/// The settings of a file. An error is one line with its position.
fn settings(text: &str) -> Result<Vec<Setting>, String> {
    // `off` is an address for `--listen`, not false.
    let options = serde_saphyr::options! { strict_booleans: true };
    let Entries(entries) = if text.trim().is_empty() {
        Entries(Vec::new())
    } else {
        serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let position = error.location().map(position).unwrap_or_default();
            let message = error.without_snippet().to_string();
            let first = message.lines().next().unwrap_or_default().trim();
            format!("{position}{}", first.strip_prefix("error: ").unwrap_or(first))
        })?
    };
    let allowed = allowed();
    let settings = entries.into_iter().map(|(name, values)| {
        let at = position(name.referenced);
        let option = allowed.iter().find(|arg| arg.get_long() == Some(&name.value));
        let Some(option) = option else {
            return Err(format!(
                "{at}unknown option {:?}; options have the names of the flags of `stable-trace trace`",
                name.value
            ));
        };
        let values = checked(option, values).map_err(|problem| format!("{at}{problem}"))?;
        Ok(Setting { option: option.clone(), values })
    });
    settings.collect()
}

/// The values of an option, if it takes them.
fn checked(option: &Arg, Values(values): Values) -> Result<Vec<String>, String> {
    let name = option.get_long().unwrap_or_default();
    let repeatable = matches!(option.get_action(), ArgAction::Append);
    if values.len() != 1 && !repeatable {
        return Err(format!("{name} takes one value, not {}", values.len()));
    }
    let takes_value = option.get_action().takes_values();
    for value in &values {
        // As the command line would take it.
        let words = match (takes_value, value.as_str()) {
            (true, value) => vec![format!("--{name}={value}")],
            (false, "true") => vec![format!("--{name}")],
            (false, "false") => Vec::new(),
            (false, other) => match (option.get_action(), other.parse::<u8>()) {
                (ArgAction::Count, Ok(times)) => vec![format!("--{name}"); times.into()],
                _ => return Err(format!("{name} is {other:?}; give true or false")),
            },
        };
        let own = Command::new("option").no_binary_name(true).arg(option.clone());
        if let Err(error) = own.try_get_matches_from(words) {
            return Err(one_line(&error));
        }
    }
    Ok(values)
}

/// The message of an error of the command line.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let message = text.split("\n\n").next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(message);
    message.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

fn position(location: Location) -> String {
    format!("line {}, column {}: ", location.line(), location.column())
}

/// The entries of a file, in its order.
struct Entries(Vec<(Spanned<String>, Values)>);

/// One value or several, as text.
struct Values(Vec<String>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;

        impl<'de> Visitor<'de> for Map {
            type Value = Entries;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("options and their values, such as `min-latency: 1ms`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }

            fn visit_unit<E>(self) -> Result<Entries, E> {
                Ok(Entries(Vec::new()))
            }
        }

        deserializer.deserialize_map(Map)
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Values;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a value, or a list of values")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Values, E> {
                Ok(Values(vec![value.to_string()]))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Values, E> {
                Ok(Values(vec![value.to_string()]))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Values, E> {
                Ok(Values(vec![value.to_string()]))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Values, E> {
                Ok(Values(vec![value.to_string()]))
            }

            fn visit_str<E>(self, value: &str) -> Result<Values, E> {
                Ok(Values(vec![value.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Values, A::Error> {
                let mut values = Vec::new();
                while let Some(Values(value)) = list.next_element()? {
                    let [value] = <[String; 1]>::try_from(value)
                        .map_err(|_| A::Error::custom("a list of lists is no value"))?;
                    values.push(value);
                }
                Ok(Values(values))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::options::{Command as Chosen, Format, TracingArgs};

    fn parse(text: &str, words: &[&str]) -> TracingArgs {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let config = format!("--config={}", file.path().display());
        let (command, others) = match words {
            [command @ ("run" | "trace" | "wac"), others @ ..] => (Some(*command), others),
            others => (None, others),
        };
        let words = ["stable-trace"].into_iter().chain(command).chain([config.as_str()]);
        let words = words.chain(others.iter().copied()).map(OsString::from);
        let cli = options(words.collect::<Vec<_>>()).unwrap_or_else(|error| panic!("{error:?}"));
        match cli.command {
            None => cli.trace.tracing,
            Some(Chosen::Trace(args)) => args.tracing,
            Some(Chosen::Run(args)) => args.tracing,
            other => panic!("{other:?}"),
        }
    }

    fn error_of(text: &str) -> String {
        settings(text).err().unwrap_or_else(|| panic!("{text:?} was accepted"))
    }

    const FILE: &str = "\
# A comment.
min-latency: 10ms
device: [sda, 8:16]
format: json
stacks: true
listen: off
ring-size: 1048576
";

    #[test]
    fn a_file_has_options_by_the_names_of_their_flags() {
        for words in [&[][..], &["trace"], &["run", "--", "true"]] {
            let args = parse(FILE, words);
            assert_eq!(args.min_latency, Duration::from_millis(10), "{words:?}");
            assert_eq!(args.devices, ["sda", "8:16"]);
            assert_eq!(args.format, Format::Json);
            assert_eq!(args.ring_size, 1 << 20);
            assert!(args.stacks);
        }
    }

    #[test]
    fn a_flag_wins() {
        let args = parse(FILE, &["--min-latency=1s", "--device", "loop0"]);
        assert_eq!(args.min_latency, Duration::from_secs(1));
        assert_eq!(args.devices, ["loop0"], "not those of the file too");
        assert_eq!(args.format, Format::Json);
    }

    #[test]
    fn each_option_has_a_variable() {
        let command = with_variables(Cli::command());
        let trace = command.find_subcommand("trace").unwrap();
        let variables: Vec<_> = trace.get_arguments().filter_map(Arg::get_env).collect();
        assert!(variables.contains(&"STABLE_TRACE_MIN_LATENCY".as_ref()), "{variables:?}");
        assert!(
            command
                .find_subcommand("report")
                .unwrap()
                .get_arguments()
                .all(|arg| { arg.get_env().is_none() })
        );
    }

    #[test]
    fn a_file_without_options_changes_nothing() {
        for text in ["", "# nothing\n", "{}\n"] {
            assert!(settings(text).unwrap_or_else(|error| panic!("{text:?}: {error}")).is_empty());
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, place, problem) in [
            ("format: json\nmin-latencie: 1ms\n", "line 2, column 1: ", "min-latencie"),
            ("min-latency: soon\n", "line 1, column 1: ", "soon"),
            ("attach: magic\n", "line 1, column 1: ", "fentry"),
            ("min-latency: [1ms, 2ms]\n", "line 1, column 1: ", "takes one value, not 2"),
            ("stacks: maybe\n", "line 1, column 1: ", "give true or false"),
            ("config: other.yaml\n", "line 1, column 1: ", "unknown option"),
            ("help: true\n", "line 1, column 1: ", "unknown option"),
            ("device: [[sda]]\ndevice: b\n", "line ", ""),
            ("- a\n", "line 1", ""),
            ("format: [\n", "line ", ""),
            ("duration:\n", "line 1", ""),
        ] {
            let error = error_of(text);
            assert!(error.starts_with(place) && error.contains(problem), "{text:?}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
