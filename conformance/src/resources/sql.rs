//! Tables in databases, through their own command lines.

use super::page::{Value, block, filled};
use super::{Mark, Written};
use crate::{Failure, Outcome};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A database.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Database {
    /// A file.
    Sqlite(PathBuf),
    /// The directory of its socket.
    Postgresql(PathBuf),
    /// Its socket.
    Mariadb(PathBuf),
}

/// Where the mark is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pattern {
    /// In the row.
    Row,
    /// In a table of marks.
    Table,
}

/// A table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    /// Where it is.
    pub database: Database,
    /// How it is fenced.
    pub pattern: Pattern,
}

impl Database {
    /// As its blocks call it.
    pub fn name(&self) -> &'static str {
        match self {
            Database::Sqlite(_) => "sqlite",
            Database::Postgresql(_) => "postgresql",
            Database::Mariadb(_) => "mariadb",
        }
    }

    fn command(&self) -> Command {
        match self {
            Database::Sqlite(file) => {
                let mut command = Command::new("sqlite3");
                // The dot command makes it wait for other writers.
                command.args(["-batch", "-bail", "-separator", " "]);
                command.args(["-cmd", ".timeout 20000"]).arg(file);
                command
            }
            Database::Postgresql(directory) => {
                let mut command = Command::new("psql");
                command.args(["-XqAtw", "-F", " ", "-v", "ON_ERROR_STOP=1", "-U"]);
                command.args(["postgres", "-d", "postgres", "-h"]);
                command.arg(directory);
                command
            }
            Database::Mariadb(socket) => {
                let mut command = Command::new("mariadb");
                command.args(["--no-defaults", "-NB", "-u", "root", "-D", "test", "-S"]);
                command.arg(socket);
                command
            }
        }
    }

    /// Runs statements: what they print, or what the database says against them.
    ///
    /// # Errors
    /// When its command line cannot be run.
    pub async fn run(&self, statements: &str) -> Outcome<Result<String, String>> {
        let mut child = self
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{}: {error}", self.name()))?;
        let mut input = child.stdin.take().ok_or("it has no input")?;
        // It may end before it has read everything.
        let _ = input.write_all(statements.as_bytes()).await;
        drop(input);
        let output = child.wait_with_output().await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Ok(match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        })
    }

    /// Runs statements that must succeed.
    async fn must(&self, statements: &str) -> Outcome<String> {
        let name = self.name();
        let ran = self.run(statements).await?;
        ran.map_err(|error| Failure::from(format!("{name}: {error}")))
    }

    /// Makes all tables.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn prepare(&self) -> Outcome<()> {
        let name = self.name();
        self.must(block(&format!("{name}/row-setup"))).await?;
        self.must(block(&format!("{name}/setup"))).await?;
        let stock = "CREATE TABLE stock (item VARCHAR(100) PRIMARY KEY, amount VARCHAR(100));";
        self.must(stock).await.map(drop)
    }
}

impl Table {
    fn block(&self, name: &str) -> &'static str {
        block(&format!("{}/{name}", self.database.name()))
    }

    /// Makes an empty row.
    pub async fn make(&self, key: u64) -> Outcome<()> {
        let text = key.to_string();
        let key = [("key", Value::Number(key)), ("item", Value::Text(&text))];
        let statement = match self.pattern {
            Pattern::Row => "INSERT INTO accounts (id, balance) VALUES (:key, '');",
            Pattern::Table => "INSERT INTO stock VALUES (:item, '');",
        };
        self.database.must(&filled(statement, &key)).await.map(drop)
    }

    /// Writes as the page says.
    pub async fn write(&self, mark: &Mark, key: u64, value: &str) -> Outcome<Written> {
        let item = key.to_string();
        let parameters = [
            ("lock", Value::Text(&mark.lock)),
            ("token", Value::Number(mark.token)),
            ("id", Value::Number(key)),
            ("balance", Value::Text(value)),
            ("item", Value::Text(&item)),
            ("amount", Value::Text(value)),
        ];
        match self.pattern {
            Pattern::Row => {
                let statement = filled(self.block("row-write"), &parameters);
                self.counted(&statement).await
            }
            Pattern::Table => self.told(&filled(self.block("write"), &parameters)).await,
        }
    }

    /// Raises the mark only.
    pub async fn raise(&self, mark: &Mark, key: u64) -> Outcome<Written> {
        let parameters = [
            ("lock", Value::Text(&mark.lock)),
            ("token", Value::Number(mark.token)),
            ("id", Value::Number(key)),
        ];
        match self.pattern {
            Pattern::Row => {
                let claim =
                    "UPDATE accounts SET fence = :token WHERE id = :id AND fence <= :token;";
                self.counted(&filled(claim, &parameters)).await
            }
            Pattern::Table => {
                let raise = self.block("write").lines().nth(1).unwrap_or_default();
                self.told(&filled(raise, &parameters)).await
            }
        }
    }

    /// One statement that changes a row, or none.
    async fn counted(&self, statement: &str) -> Outcome<Written> {
        let count = match self.database {
            Database::Sqlite(_) => "SELECT changes();",
            Database::Postgresql(_) => "\\echo :ROW_COUNT",
            Database::Mariadb(_) => "SELECT ROW_COUNT();",
        };
        let changed = self
            .database
            .must(&format!("{statement}\n{count}\n"))
            .await?;
        match changed.as_str() {
            "0" => Ok(Written::Stale),
            "1" => Ok(Written::Applied),
            other => Err(format!("{other:?} is no number of rows").into()),
        }
    }

    /// Statements that fail if the token is stale.
    async fn told(&self, statements: &str) -> Outcome<Written> {
        match self.database.run(statements).await? {
            Ok(_) => Ok(Written::Applied),
            Err(error) if error.contains("stale") => Ok(Written::Stale),
            Err(error) => Err(error.into()),
        }
    }

    /// The mark and the value.
    pub async fn read(&self, lock: &str, key: u64) -> Outcome<(u64, String)> {
        let item = key.to_string();
        let parameters = [
            ("lock", Value::Text(lock)),
            ("id", Value::Number(key)),
            ("item", Value::Text(&item)),
        ];
        let query = match (self.pattern, &self.database) {
            (Pattern::Row, _) => "SELECT fence, balance FROM accounts WHERE id = :id;",
            (Pattern::Table, Database::Mariadb(_)) => {
                "SELECT token, amount FROM stock, fence WHERE item = :item AND name = :lock;"
            }
            (Pattern::Table, _) => {
                "SELECT token, amount FROM stock, fence WHERE item = :item AND lock = :lock;"
            }
        };
        let row = self.database.must(&filled(query, &parameters)).await?;
        let (token, value) = row.split_once([' ', '\t']).unwrap_or((&row, ""));
        let token = token.parse().map_err(|_| format!("{row:?} is no row"))?;
        Ok((token, value.to_owned()))
    }

    /// What the page warns of.
    pub async fn write_unfenced(&self, key: u64, value: &str) -> Outcome<()> {
        let item = key.to_string();
        let parameters = [
            ("id", Value::Number(key)),
            ("value", Value::Text(value)),
            ("item", Value::Text(&item)),
        ];
        let statement = match self.pattern {
            Pattern::Row => "UPDATE accounts SET balance = :value WHERE id = :id;",
            Pattern::Table => "UPDATE stock SET amount = :value WHERE item = :item;",
        };
        let statement = filled(statement, &parameters);
        self.database.must(&statement).await.map(drop)
    }
}
