//! The state on the screen.

use kubetask_api::{Task, TaskPhase};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, Row, Table, TableState};

use super::state::{Command, Mode, State};
use crate::output::plain_text;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State, now: jiff::Timestamp) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(3), Constraint::Length(1)]).areas(frame.area());
    header(frame, head, state);
    if state.mode == Mode::Log {
        log(frame, body, state);
    } else {
        let [list, below] = Layout::vertical([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(body);
        tasks(frame, list, state, now);
        log(frame, below, state);
    }
    footer(frame, foot, state);
    if state.mode == Mode::Help {
        help(frame);
    }
}

fn header(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let [pending, running, completed, failed] = state.counts();
    let place = if state.all_namespaces { "all namespaces" } else { state.namespace.as_str() };
    let mut spans = vec![Span::styled(format!(" kubetask · {place} · "), Style::new().add_modifier(Modifier::BOLD))];
    for (count, phase) in [
        (running, TaskPhase::Running),
        (pending, TaskPhase::Pending),
        (completed, TaskPhase::Completed),
        (failed, TaskPhase::Failed),
    ] {
        spans.push(Span::styled(format!("{count} {}  ", phase.as_str().to_lowercase()), colour(phase)));
    }
    frame.render_widget(Paragraph::new(Line::from(spans)), area);
}

fn colour(phase: TaskPhase) -> Style {
    Style::new().fg(match phase {
        TaskPhase::Pending => Color::Yellow,
        TaskPhase::Running => Color::Cyan,
        TaskPhase::Completed => Color::Green,
        TaskPhase::Failed => Color::Red,
    })
}

fn tasks(frame: &mut Frame<'_>, area: Rect, state: &State, now: jiff::Timestamp) {
    let rows = state.rows();
    let selected = rows.iter().position(|(key, _)| Some(*key) == state.selected.as_ref());
    let table = rows.iter().map(|(key, task)| {
        let status = task.status.clone().unwrap_or_default();
        let name = if state.all_namespaces { format!("{}/{}", key.namespace, key.name) } else { key.name.clone() };
        Row::new([
            Span::raw(name),
            Span::styled(task.phase().as_str(), colour(task.phase())),
            Span::raw(task.spec.agent_ref.clone().unwrap_or_else(|| "default".to_owned())),
            Span::raw(ran(task, now)),
            Span::raw(plain_text(&status.message.unwrap_or_default()).replace('\n', " ")),
        ])
    });
    let widths = [
        Constraint::Percentage(30),
        Constraint::Length(9),
        Constraint::Percentage(15),
        Constraint::Length(8),
        Constraint::Fill(1),
    ];
    let title = if state.filter.is_empty() { " tasks ".to_owned() } else { format!(" tasks /{} ", state.filter) };
    let table = Table::new(table, widths)
        .header(Row::new(["NAME", "PHASE", "AGENT", "RAN", "MESSAGE"]).style(Style::new().add_modifier(Modifier::BOLD)))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .block(Block::new().borders(Borders::TOP).title(title));
    let mut position = TableState::new().with_selected(selected);
    frame.render_stateful_widget(table, area, &mut position);
}

/// How long the agent has run, or ran.
fn ran(task: &Task, now: jiff::Timestamp) -> String {
    let Some(status) = &task.status else { return String::new() };
    let Some(start) = status.start_time.as_ref() else { return String::new() };
    let end = status.completion_time.as_ref().map_or(now, |t| t.0);
    crate::follow::summary::human(end.duration_since(start.0).as_secs().max(0))
}

fn log(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let name = state.selected.as_ref().map_or("", |s| s.name.as_str());
    let height = usize::from(area.height.saturating_sub(1));
    let end = state.lines.len().saturating_sub(state.scroll).max(height.min(state.lines.len()));
    let start = end.saturating_sub(height);
    let lines: Vec<Line<'_>> = state.lines.range(start..end).map(|line| Line::raw(line.as_str())).collect();
    let title = if state.scroll > 0 {
        format!(" log of {name}, {} lines up ", state.scroll)
    } else {
        format!(" log of {name} ")
    };
    frame.render_widget(Paragraph::new(lines).block(Block::new().borders(Borders::TOP).title(title)), area);
}

fn footer(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let text = match &state.mode {
        Mode::Filter => format!("/{}▏", state.filter),
        Mode::Confirm(Command::Stop(task)) => format!("Stop {}? y/n", task.name),
        Mode::Confirm(Command::Retry(task)) => format!("Run {} again? y/n", task.name),
        _ if !state.message.is_empty() => state.message.clone(),
        Mode::Log => "↑↓ PgUp PgDn scroll  G end  s shell  x stop  Esc back".to_owned(),
        _ => {
            "↑↓ select  Enter log  s shell  x stop  r run again  / filter  0 all namespaces  ? help  q quit".to_owned()
        }
    };
    frame.render_widget(Paragraph::new(text).style(Style::new().add_modifier(Modifier::DIM)), area);
}

fn help(frame: &mut Frame<'_>) {
    let text = [
        "↑ ↓ j k     select a task, or scroll its log",
        "g G         first, last",
        "Enter l     the log on the whole screen, and back",
        "PgUp PgDn   scroll the log",
        "s           a shell in the agent's container",
        "x           stop the agent; its log stays",
        "r           run a task that has ended once more",
        "/           filter by name, agent or phase; Esc ends it",
        "0           tasks of all namespaces, or of one",
        "q Ctrl-C    leave",
    ];
    let whole = frame.area();
    let width = 60.min(whole.width);
    let height = u16::try_from(text.len() + 2).unwrap_or(whole.height).min(whole.height);
    let area = Rect { x: (whole.width - width) / 2, y: (whole.height - height) / 2, width, height };
    frame.render_widget(Clear, area);
    let lines: Vec<Line<'_>> = text.iter().map(|line| Line::raw(*line)).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" keys ")), area);
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::runtime::watcher::Event;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    fn screen(state: &State, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state, "2026-01-01T00:05:00Z".parse().unwrap())).unwrap();
        let lines: Vec<String> =
            terminal.backend().to_string().lines().map(|l| l.trim_matches('"').trim_end().to_owned()).collect();
        lines.join("\n")
    }

    #[test]
    fn dashboard() {
        let mut state = State::new("default", false);
        for (name, phase) in [("write-docs", "Completed"), ("fix-tests", "Running")] {
            let end = (phase == "Completed").then_some("2026-01-01T00:01:30Z");
            let task = json!({
                "apiVersion": "kubetask.io/v1alpha1", "kind": "Task",
                "metadata": {"name": name, "namespace": "default"}, "spec": {"prompt": "x", "agentRef": "claude"},
                "status": {
                    "phase": phase, "podName": "p", "message": "the agent \u{1b}[2Jruns",
                    "startTime": "2026-01-01T00:00:00Z", "completionTime": end,
                },
            });
            state.tasks(Box::new(Event::Apply(serde_json::from_value(task).unwrap())));
        }
        state.selected = state.rows().first().map(|(key, _)| (*key).clone());
        let of = state.wanted_log().unwrap();
        state.log(&of, (1..=9).map(|n| format!("line {n}").into_bytes()).collect());
        insta::assert_snapshot!("list", screen(&state, 100, 14));
        state.mode = Mode::Help;
        insta::assert_snapshot!("help", screen(&state, 100, 16));
        state.mode = Mode::Log;
        state.scroll = 3;
        insta::assert_snapshot!("log", screen(&state, 60, 8));
    }

    #[test]
    fn no_size_is_too_small() {
        let mut state = State::new("default", true);
        for mode in [Mode::List, Mode::Log, Mode::Help, Mode::Filter] {
            state.mode = mode;
            for (width, height) in [(1, 1), (3, 2), (10, 4), (200, 3)] {
                screen(&state, width, height);
            }
        }
    }
}
