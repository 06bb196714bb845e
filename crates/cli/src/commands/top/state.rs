//! What the dashboard shows: plain data, changed by keys and news; nothing here talks to anybody.

use std::collections::{BTreeMap, VecDeque};

use kube::runtime::watcher::Event;
use kubetask_api::{Task, TaskPhase};
use ratatui::crossterm::event::{Event as Input, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::output::plain_text;

/// How many lines of a log are kept.
const LOG_LINES: usize = 2000;

/// A task by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A log that is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRef {
    /// Namespace of the pod.
    pub namespace: String,
    /// The pod.
    pub pod: String,
}

/// What keys ask for beyond the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Leave.
    Quit,
    /// Watch other namespaces than before.
    Namespaces,
    /// End a task's agent.
    Stop(TaskRef),
    /// Run a task once more.
    Retry(TaskRef),
    /// Open a shell in a task's container.
    Shell(TaskRef),
}

/// What the keys mean now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// The list of tasks.
    List,
    /// The log on the whole screen.
    Log,
    /// A filter is being typed.
    Filter,
    /// A question is open.
    Confirm(Command),
    /// The keys are explained.
    Help,
}

/// Everything that is shown.
pub struct State {
    /// The namespace of the command line.
    pub namespace: String,
    /// Whether tasks of all namespaces are shown.
    pub all_namespaces: bool,
    /// What the keys mean.
    pub mode: Mode,
    /// Only tasks with this in their name, agent or phase.
    pub filter: String,
    /// The task that is looked at.
    pub selected: Option<TaskRef>,
    /// Lines of its log, harmless.
    pub lines: VecDeque<String>,
    /// How many lines the log is scrolled up from its end.
    pub scroll: usize,
    /// A word to the user.
    pub message: String,
    tasks: BTreeMap<TaskRef, Task>,
    /// What a list that is under way has named.
    listing: Option<BTreeMap<TaskRef, Task>>,
    log_of: Option<LogRef>,
}

impl State {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(namespace: &str, all_namespaces: bool) -> Self {
        Self {
            namespace: namespace.to_owned(),
            all_namespaces,
            mode: Mode::List,
            filter: String::new(),
            selected: None,
            lines: VecDeque::new(),
            scroll: 0,
            message: String::new(),
            tasks: BTreeMap::new(),
            listing: None,
            log_of: None,
        }
    }

    /// The tasks to show: what runs first, then what waits, then what ended, the newest first.
    #[must_use]
    pub fn rows(&self) -> Vec<(&TaskRef, &Task)> {
        let filter = self.filter.to_lowercase();
        let mut rows: Vec<_> = self
            .tasks
            .iter()
            .filter(|(key, task)| {
                let agent = task.spec.agent_ref.as_deref().unwrap_or_default();
                filter.is_empty()
                    || [key.name.as_str(), agent, task.phase().as_str()]
                        .iter()
                        .any(|t| t.to_lowercase().contains(&filter))
            })
            .collect();
        rows.sort_by_key(|(key, task)| {
            let rank = match task.phase() {
                TaskPhase::Running => 0,
                TaskPhase::Pending => 1,
                _ => 2,
            };
            let created = task.metadata.creation_timestamp.as_ref().map(|t| t.0);
            (rank, std::cmp::Reverse(created), (*key).clone())
        });
        rows
    }

    /// How many tasks there are of each phase: pending, running, completed, failed.
    #[must_use]
    pub fn counts(&self) -> [usize; 4] {
        let mut counts = [0; 4];
        for task in self.tasks.values() {
            let at = match task.phase() {
                TaskPhase::Pending => 0,
                TaskPhase::Running => 1,
                TaskPhase::Completed => 2,
                TaskPhase::Failed => 3,
            };
            if let Some(count) = counts.get_mut(at) {
                *count += 1;
            }
        }
        counts
    }

    /// The task that is looked at.
    #[must_use]
    pub fn task(&self) -> Option<&Task> {
        self.tasks.get(self.selected.as_ref()?)
    }

    /// The log that is to be followed now. Asking for another one empties what is shown.
    pub fn wanted_log(&mut self) -> Option<LogRef> {
        let wanted = self.task().and_then(|task| {
            let pod = task.status.as_ref()?.pod_name.clone()?;
            Some(LogRef { namespace: self.selected.as_ref()?.namespace.clone(), pod })
        });
        if wanted != self.log_of {
            self.log_of.clone_from(&wanted);
            self.lines.clear();
            self.scroll = 0;
        }
        wanted
    }

    /// Takes in what the watch tells.
    pub fn tasks(&mut self, event: Box<Event<Task>>) {
        let key = |task: &Task| TaskRef {
            namespace: task.metadata.namespace.clone().unwrap_or_default(),
            name: task.metadata.name.clone().unwrap_or_default(),
        };
        match *event {
            Event::Init => self.listing = Some(BTreeMap::new()),
            Event::InitApply(task) => {
                if let Some(listing) = &mut self.listing {
                    listing.insert(key(&task), task);
                }
            }
            Event::InitDone => self.tasks = self.listing.take().unwrap_or_default(),
            Event::Apply(task) => {
                self.tasks.insert(key(&task), task);
            }
            Event::Delete(task) => {
                self.tasks.remove(&key(&task));
            }
        }
        let still_there = self.selected.as_ref().is_some_and(|selected| self.tasks.contains_key(selected));
        if !still_there {
            self.selected = self.rows().first().map(|(key, _)| (*key).clone());
        }
    }

    /// Takes in lines of a log.
    pub fn log(&mut self, of: &LogRef, lines: Vec<Vec<u8>>) {
        if self.log_of.as_ref() != Some(of) {
            return;
        }
        for line in lines {
            if self.lines.len() == LOG_LINES {
                self.lines.pop_front();
            }
            self.lines.push_back(harmless(&line));
            if self.scroll > 0 {
                // Whoever reads further up is not pulled along.
                self.scroll = (self.scroll + 1).min(LOG_LINES);
            }
        }
    }

    /// A word to the user.
    pub fn say(&mut self, text: String) {
        self.message = plain_text(&text);
    }

    /// Takes in a key.
    pub fn event(&mut self, event: &Input) -> Option<Command> {
        let Input::Key(key) = event else { return None };
        if key.kind == KeyEventKind::Release {
            return None;
        }
        self.message.clear();
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Some(Command::Quit);
        }
        match self.mode.clone() {
            Mode::Filter => self.filter_key(key),
            Mode::Confirm(command) => {
                self.mode = Mode::List;
                matches!(key.code, KeyCode::Char('y' | 'Y')).then_some(command)
            }
            Mode::Help => {
                self.mode = Mode::List;
                None
            }
            Mode::List | Mode::Log => self.key(key),
        }
    }

    fn filter_key(&mut self, key: &KeyEvent) -> Option<Command> {
        match key.code {
            KeyCode::Enter => self.mode = Mode::List,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::List;
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(c) if !key.modifiers.contains(KeyModifiers::CONTROL) => self.filter.push(c),
            _ => {}
        }
        let shown = self.rows().iter().any(|(key, _)| Some(*key) == self.selected.as_ref());
        if !shown {
            self.selected = self.rows().first().map(|(key, _)| (*key).clone());
        }
        None
    }

    fn key(&mut self, key: &KeyEvent) -> Option<Command> {
        let in_log = self.mode == Mode::Log;
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc if in_log => self.mode = Mode::List,
            KeyCode::Char('q') => return Some(Command::Quit),
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Enter | KeyCode::Char('l') => self.mode = if in_log { Mode::List } else { Mode::Log },
            KeyCode::Up | KeyCode::Char('k') if in_log => self.scroll_by(1),
            KeyCode::Down | KeyCode::Char('j') if in_log => self.scroll_by(-1),
            KeyCode::PageUp => self.scroll_by(20),
            KeyCode::PageDown => self.scroll_by(-20),
            KeyCode::Char('g') | KeyCode::Home if in_log => self.scroll = self.lines.len(),
            KeyCode::Char('G') | KeyCode::End if in_log => self.scroll = 0,
            KeyCode::Up | KeyCode::Char('k') => self.select(|at, _| at.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.select(|at, last| (at + 1).min(last)),
            KeyCode::Char('g') | KeyCode::Home => self.select(|_, _| 0),
            KeyCode::Char('G') | KeyCode::End => self.select(|_, last| last),
            KeyCode::Char('/') if !in_log => self.mode = Mode::Filter,
            KeyCode::Char('0') => {
                self.all_namespaces = !self.all_namespaces;
                return Some(Command::Namespaces);
            }
            KeyCode::Char('x') => {
                let selected = self.selected.clone()?;
                self.mode = Mode::Confirm(Command::Stop(selected));
            }
            KeyCode::Char('r') => {
                let selected = self.selected.clone()?;
                self.mode = Mode::Confirm(Command::Retry(selected));
            }
            KeyCode::Char('s') => return self.selected.clone().map(Command::Shell),
            _ => {}
        }
        None
    }

    fn scroll_by(&mut self, lines: isize) {
        self.scroll = self.scroll.saturating_add_signed(lines).min(self.lines.len());
    }

    fn select(&mut self, to: impl FnOnce(usize, usize) -> usize) {
        let rows = self.rows();
        let Some(last) = rows.len().checked_sub(1) else { return };
        let at = rows.iter().position(|(key, _)| Some(*key) == self.selected.as_ref()).unwrap_or(0);
        self.selected = rows.get(to(at, last)).map(|(key, _)| (*key).clone());
    }
}

/// A line of a log without anything that a terminal would act on. Colours are left out; tabs become spaces.
fn harmless(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.trim_end_matches('\r');
    while let Some(at) = rest.find("\u{1b}[") {
        let (before, sequence) = rest.split_at(at);
        out.push_str(before);
        let parameters = sequence.get(2..).unwrap_or_default();
        let end = parameters.find(|c: char| !(c.is_ascii_digit() || matches!(c, ';' | ':')));
        match end.filter(|end| parameters[*end..].starts_with('m')) {
            Some(end) => rest = parameters.get(end + 1..).unwrap_or_default(),
            None => {
                out.push_str("\u{1b}[");
                rest = parameters;
            }
        }
    }
    out.push_str(rest);
    plain_text(&out).replace('\t', "    ").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn task(name: &str, phase: &str, created: &str) -> Task {
        serde_json::from_value(json!({
            "apiVersion": "kubetask.io/v1alpha1", "kind": "Task",
            "metadata": {"name": name, "namespace": "default", "creationTimestamp": created},
            "spec": {"prompt": "x", "agentRef": "claude"}, "status": {"phase": phase, "podName": format!("{name}-pod")},
        }))
        .unwrap()
    }

    fn filled() -> State {
        let mut state = State::new("default", false);
        state.tasks(Box::new(Event::Init));
        for (name, phase, minute) in
            [("a", "Completed", 1), ("b", "Running", 2), ("c", "Pending", 3), ("d", "Running", 4)]
        {
            let created = format!("2026-01-01T00:0{minute}:00Z");
            state.tasks(Box::new(Event::InitApply(task(name, phase, &created))));
        }
        state.tasks(Box::new(Event::InitDone));
        state
    }

    fn press(state: &mut State, keys: &str) -> Option<Command> {
        let mut last = None;
        for c in keys.chars() {
            let code = match c {
                '\n' => KeyCode::Enter,
                '\u{1b}' => KeyCode::Esc,
                c => KeyCode::Char(c),
            };
            last = state.event(&Input::Key(KeyEvent::from(code)));
        }
        last
    }

    fn names(state: &State) -> String {
        state.rows().iter().map(|(key, _)| key.name.as_str()).collect()
    }

    fn selected(state: &State) -> &str {
        state.selected.as_ref().map_or("", |s| s.name.as_str())
    }

    #[test]
    fn what_runs_comes_first_and_the_newest_before() {
        let state = filled();
        assert_eq!((names(&state).as_str(), selected(&state)), ("dbca", "d"));
        assert_eq!(state.counts(), [1, 2, 1, 0]);
    }

    #[test]
    fn keys_select_filter_and_ask() {
        let mut state = filled();
        press(&mut state, "jj");
        assert_eq!(selected(&state), "c");
        press(&mut state, "G");
        assert_eq!(selected(&state), "a");
        press(&mut state, "/run\n");
        assert_eq!((names(&state).as_str(), selected(&state)), ("db", "d"));
        press(&mut state, "\u{1b}");
        assert_eq!(names(&state), "dbca");
        let d = TaskRef { namespace: "default".to_owned(), name: "d".to_owned() };
        assert_eq!(press(&mut state, "x"), None);
        assert_eq!(press(&mut state, "n"), None, "asked, and not wanted");
        assert_eq!(press(&mut state, "xy"), Some(Command::Stop(d.clone())));
        assert_eq!(press(&mut state, "ry"), Some(Command::Retry(d.clone())));
        assert_eq!(press(&mut state, "s"), Some(Command::Shell(d)));
        assert_eq!(press(&mut state, "\nq"), None, "q leaves the log first");
        assert_eq!(press(&mut state, "q"), Some(Command::Quit));
    }

    #[test]
    fn the_selection_survives_changes_and_falls_to_the_first_when_its_task_goes() {
        let mut state = filled();
        press(&mut state, "j");
        assert_eq!(selected(&state), "b");
        state.tasks(Box::new(Event::Apply(task("b", "Failed", "2026-01-01T00:02:00Z"))));
        assert_eq!((names(&state).as_str(), selected(&state)), ("dcba", "b"));
        state.tasks(Box::new(Event::Delete(task("b", "Failed", "2026-01-01T00:02:00Z"))));
        assert_eq!(selected(&state), "d");
    }

    #[test]
    fn a_log_is_bounded_and_belongs_to_its_task() {
        let mut state = filled();
        let of = state.wanted_log().unwrap();
        assert_eq!(of.pod, "d-pod");
        state.log(&of, (0..LOG_LINES + 5).map(|n| n.to_string().into_bytes()).collect());
        assert_eq!((state.lines.len(), state.lines[0].as_str()), (LOG_LINES, "5"));
        press(&mut state, "j");
        assert_eq!(state.wanted_log().unwrap().pod, "b-pod");
        assert!(state.lines.is_empty());
        state.log(&of, vec![b"late".to_vec()]);
        assert!(state.lines.is_empty(), "of a log that nobody looks at any more");
    }

    #[test]
    fn what_agents_write_is_harmless() {
        assert_eq!(harmless(b"\x1b[1;31mred\x1b[0m\tx\r"), "red    x");
        assert_eq!(harmless(b"\x1b]0;owned\x07\x1b[2J"), "␛]0;owned�␛[2J");
        assert_eq!(harmless(b"\x1b["), "␛[");
    }

    proptest! {
        #[test]
        fn no_control_character_gets_through(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(!harmless(&bytes).chars().any(char::is_control));
        }
    }
}
