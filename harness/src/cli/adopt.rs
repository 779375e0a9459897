//! The arguments of what writes into a repository, ours or another.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What `workflows` does.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum WorkflowsCommand {
    /// Copy the workflows of this build to .github/workflows
    Install(InstallArgs),
}

/// Arguments of `workflows install`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct InstallArgs {
    /// Copy nothing, and leave with status 1 where a file is missing or differs
    #[arg(long)]
    pub check: bool,
    /// The repository [default: the one that holds the current directory]
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,
}

/// Arguments of `init`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct InitArgs {
    /// The repository: a folder with a Cargo.toml that has a [workspace]
    #[arg(value_name = "DIR", default_value = ".")]
    pub into: PathBuf,
    /// What the repository is called in evidence [default: the name of the folder]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Depend on the crates in this checkout of Kakeya, instead of on its repository
    #[arg(long, value_name = "DIR", required_unless_present = "source_git")]
    pub source_path: Option<PathBuf>,
    /// Depend on the crates of this repository of Kakeya
    #[arg(
        long,
        value_name = "URL",
        conflicts_with = "source_path",
        requires = "source_rev"
    )]
    pub source_git: Option<String>,
    /// Where the workspace's Cargo.toml is a package too: make `gates` what cargo works on where no package is named
    #[arg(long)]
    pub default_members: bool,
    /// The commit of it
    #[arg(long, value_name = "SHA", requires = "source_git")]
    pub source_rev: Option<String>,
}
