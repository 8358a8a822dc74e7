//! `curricle completions` and `curricle man`: what a shell and `man` want to know, from the same definitions as `--help`.

use anyhow::{Context, Result};
use clap::{Command, ValueEnum};
use std::path::PathBuf;

/// Print a completion script for a shell: curricle completions bash > ~/.local/share/bash-completion/completions/curricle
#[derive(Debug, Clone, clap::Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Shells with completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// bash.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
    /// elvish.
    Elvish,
    /// PowerShell.
    Powershell,
}

/// Print the manual page, or write one for every command: curricle man --out ~/.local/share/man/man1
#[derive(Debug, Clone, clap::Args)]
pub struct ManArgs {
    /// Write curricle.1, curricle-run.1 and so on to this folder
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
}

/// Prints a completion script.
///
/// # Errors
/// If stdout cannot be written.
pub fn completions(args: &CompletionsArgs, mut command: Command) -> Result<()> {
    use clap_complete::shells;
    let mut script = Vec::new();
    let out = &mut script;
    let command = &mut command;
    match args.shell {
        Shell::Bash => clap_complete::generate(shells::Bash, command, "curricle", out),
        Shell::Zsh => clap_complete::generate(shells::Zsh, command, "curricle", out),
        Shell::Fish => clap_complete::generate(shells::Fish, command, "curricle", out),
        Shell::Elvish => clap_complete::generate(shells::Elvish, command, "curricle", out),
        Shell::Powershell => clap_complete::generate(shells::PowerShell, command, "curricle", out),
    }
    super::print(&String::from_utf8(script)?)?;
    Ok(())
}

/// Prints the manual page or writes all of them.
///
/// # Errors
/// If they cannot be written.
pub fn man(args: &ManArgs, command: Command) -> Result<()> {
    let Some(folder) = &args.out else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        super::print(&String::from_utf8(page)?)?;
        return Ok(());
    };
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    clap_mangen::generate_to(command, folder)
        .with_context(|| format!("cannot write manual pages to {}", folder.display()))
}
