//! The job scripts of examples/cluster, on a real Slurm of one node; where it is installed.
#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, helpers and all"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::cli::{golden, ok, repository};

/// Very long for jobs of seconds, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

fn script(name: &str) -> PathBuf {
    repository().join("examples/cluster").join(name)
}

/// A Slurm that is stopped when the test ends, however it does.
struct Slurm<'a> {
    dir: &'a Path,
}

impl<'a> Slurm<'a> {
    /// None where it is not installed.
    fn start(dir: &'a Path) -> Option<Self> {
        let folders = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        let installed = |program: &str| {
            folders
                .split(':')
                .any(|folder| Path::new(folder).join(program).exists())
        };
        if let Some(missing) = ["slurmctld", "slurmd", "munged", "sbatch", "python3"]
            .iter()
            .find(|p| !installed(p))
        {
            eprintln!("skipped: no `{missing}` here (apt-get install slurm-wlm munge)");
            return None;
        }
        let slurm = Self { dir };
        slurm.run(Command::new(script("single_node.sh")).args([
            "start".as_ref(),
            slurm.folder().as_os_str(),
            "4".as_ref(),
        ]));
        Some(slurm)
    }

    fn folder(&self) -> PathBuf {
        self.dir.join("slurm")
    }

    /// What a command says that has to do well.
    fn run(&self, command: &mut Command) -> String {
        let output = command
            .current_dir(self.dir)
            .env("SLURM_CONF", self.folder().join("slurm.conf"))
            .env("CONES_MODEL", golden("models/sd1-f32"))
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn shell(&self, command: &str) -> String {
        self.run(Command::new("sh").args(["-ec", command]))
    }

    /// Waits until a condition holds of what `squeue` says.
    fn wait(&self, what: &str, holds: impl Fn(&str) -> bool) {
        let start = Instant::now();
        loop {
            let jobs = self.shell("squeue -h -r -o '%i %T %r'");
            if holds(&jobs) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{what}: {jobs}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Slurm<'_> {
    fn drop(&mut self) {
        let stopped = Command::new(script("single_node.sh"))
            .arg("stop")
            .arg(self.folder())
            .status();
        assert!(stopped.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

/// A program that once kills itself in part 3 of 8, and once never ends in part 6.
fn unlucky(dir: &Path) -> PathBuf {
    let path = dir.join("cones.sh");
    let text = format!(
        r#"#!/bin/sh
cones={}
case "$*" in
*"--shard 3/8"*) [ -e died ] || {{ touch died; "$cones" "$@" & sleep 0.1; kill -9 $!; wait $!; exit 137; }} ;;
*"--shard 6/8"*) [ -e slept ] || {{ touch slept; exec sleep 1000; }} ;;
esac
exec "$cones" "$@"
"#,
        env!("CARGO_BIN_EXE_cones")
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn jobs_on_a_real_slurm_give_the_bytes_of_one_run() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let Some(slurm) = Slurm::start(dir) else {
        return;
    };
    let (model, class, photos) = (
        golden("models/sd1-f32"),
        golden("photos/class"),
        golden("photos/subject"),
    );
    let find = [
        "--subject",
        "dog",
        "--steps",
        "24",
        "--rho",
        "0",
        "--class-images",
        &class,
        &photos,
    ];
    ok(
        dir,
        &[
            &[
                "find",
                "--model",
                &model,
                "--method",
                "paper",
                "-o",
                "whole.idx",
            ],
            &find[..],
        ]
        .concat(),
    );

    let split = || {
        let mut command = Command::new(script("split.sh"));
        command
            .args(["8", "dog.idx"])
            .args(find)
            .env("CONES", unlucky(dir));
        slurm.run(&mut command)
    };
    // Part 3 is killed and tried again by its job; part 6 has its job killed, and with it the sum.
    split();
    slurm.wait("part 6", |jobs| {
        jobs.lines().any(|job| job.contains("_6 RUNNING"))
    });
    slurm.wait("other parts", |jobs| {
        jobs.lines().filter(|job| job.contains('_')).count() == 1
    });
    slurm.shell("scancel $(squeue -h -r -o %i -t RUNNING)");
    slurm.wait("the end", str::is_empty);
    assert!(dir.join("died").exists() && dir.join("slept").exists());
    assert!(!dir.join("dog.idx").exists() && !dir.join("dog.parts/6-of-8.scores").exists());
    // Given again, it takes that part alone.
    split();
    slurm.wait("the end", str::is_empty);
    for part in 1..=8 {
        let log = fs::read_to_string(dir.join(format!("dog.parts/{part}.log"))).unwrap();
        assert_eq!(
            log.contains("was there already"),
            part != 6,
            "{part}: {log}"
        );
    }
    let read = |name: &str| fs::read(dir.join(name)).unwrap();
    assert!(read("dog.idx") == read("whole.idx"), "other bytes");
}

#[test]
fn many_subjects_end_in_one_table() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let Some(slurm) = Slurm::start(dir) else {
        return;
    };
    let (class, photos) = (golden("photos/class"), golden("photos/subject"));
    let manifest = format!(
        "# noun\ttoken\tphotos\toutput\ndog\tsks\t{photos}\ta\ncat\tzwx\t{class}\tb\nhat\tsks\tmissing\tc\n"
    );
    fs::write(dir.join("subjects.tsv"), manifest).unwrap();
    let mut command = Command::new(script("subjects.sh"));
    command
        .args(["subjects.tsv", "out"])
        .env("CONES", env!("CARGO_BIN_EXE_cones"));
    let methods =
        format!("learned --steps 2\npaper --method paper --steps 2 --class-images {class}");
    command.env("METHODS", methods).env("TRIES", "2");
    let encoder = golden("clip/new");
    command.env(
        "EVAL",
        format!("--encoder {encoder} --count 2 --steps 2 --loss-draws 2 --class-images {class}"),
    );
    slurm.run(&mut command);
    slurm.wait("the end", str::is_empty);
    let logs = || slurm.shell("cat out/logs/*.log");
    let table =
        fs::read_to_string(dir.join("out/table.txt")).unwrap_or_else(|_| panic!("{}", logs()));
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split("  ").filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(rows.len(), 7, "{table}");
    for (row, (output, method)) in rows[1..].iter().zip([
        ("a", "learned"),
        ("a", "paper"),
        ("b", "learned"),
        ("b", "paper"),
        ("c", "learned"),
        ("c", "paper"),
    ]) {
        assert_eq!((row[1].trim(), row[2].trim()), (output, method), "{table}");
        match output {
            "c" => assert!(row[3].contains("failed"), "{table}"),
            _ => assert!(
                row.len() == 10 && ["yes", "no", "cannot tell"].contains(&row[9].trim()),
                "{table}\n{}",
                logs()
            ),
        }
    }
    // What is there is not done again.
    let before = fs::metadata(dir.join("out/learned/a.json"))
        .unwrap()
        .modified()
        .unwrap();
    slurm.run(&mut command);
    slurm.wait("the end", str::is_empty);
    assert_eq!(
        fs::metadata(dir.join("out/learned/a.json"))
            .unwrap()
            .modified()
            .unwrap(),
        before
    );
    assert_eq!(
        fs::read_to_string(dir.join("out/table.txt")).unwrap(),
        table
    );
}
