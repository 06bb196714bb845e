//! What the maker of Tasks, a CronTask or a BatchRun, looks at of each of them: [`Child`].

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kubetask_api::{API_VERSION, Task, TaskPhase, conditions, labels};

/// A kind that makes Tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MakerKind {
    /// A CronTask.
    CronTask,
    /// A BatchRun.
    BatchRun,
}

impl MakerKind {
    /// The kind as it stands in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CronTask => "CronTask",
            Self::BatchRun => "BatchRun",
        }
    }
}

/// Who made a Task, by its controlling owner reference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Maker {
    /// Its kind.
    pub kind: MakerKind,
    /// Its name.
    pub name: String,
    /// Its UID: a maker created again under the same name has not made what the former one made.
    pub uid: String,
}

impl Maker {
    /// The maker of an object; `None` when neither a CronTask nor a BatchRun made it.
    pub fn of(metadata: &ObjectMeta) -> Option<Self> {
        let owners = metadata.owner_references.as_deref().unwrap_or_default();
        let owner = owners.iter().find(|o| o.controller == Some(true) && o.api_version.starts_with("kubetask.io/"))?;
        let kind = match owner.kind.as_str() {
            "CronTask" => MakerKind::CronTask,
            "BatchRun" => MakerKind::BatchRun,
            _ => return None,
        };
        Some(Self { kind, name: owner.name.clone(), uid: owner.uid.clone() })
    }

    /// The owner reference of what the maker makes.
    pub(crate) fn reference(kind: MakerKind, metadata: &ObjectMeta) -> OwnerReference {
        OwnerReference {
            api_version: API_VERSION.to_owned(),
            kind: kind.as_str().to_owned(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}

/// What its maker looks at of a Task. Few bytes, for there may be many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Where it is.
    pub phase: TaskPhase,
    /// When it ended.
    pub completed: Option<Timestamp>,
    /// It is being deleted.
    pub going: bool,
    /// Its index, where a BatchRun made it.
    pub index: Option<usize>,
    /// It is in the archive, or is not to be archived.
    pub archived: bool,
}

impl Child {
    /// What its maker looks at of a Task.
    pub fn of(task: &Task) -> Self {
        let metadata = &task.metadata;
        let index = metadata.annotations.as_ref().and_then(|a| a.get(labels::BATCH_INDEX));
        Self {
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            phase: task.phase(),
            completed: task.status.as_ref().and_then(|s| s.completion_time.as_ref()).map(|t| t.0),
            going: metadata.deletion_timestamp.is_some(),
            index: index.and_then(|index| index.parse().ok()),
            archived: task.status.as_ref().is_some_and(|s| conditions::is_true(&s.conditions, conditions::ARCHIVED))
                || metadata.annotations.as_ref().and_then(|a| a.get(labels::SKIP_ARCHIVE)).is_some_and(|v| v == "true"),
        }
    }

    /// Whether its agent runs or may come to run.
    pub fn is_open(&self) -> bool {
        !self.phase.is_finished()
    }
}

/// A Task to be created, and what is told once it is.
#[derive(Clone, Debug, PartialEq)]
pub struct NewTask {
    /// The Task. AlreadyExists and made by the same maker means done.
    pub task: Task,
    /// What is told when this creation made it.
    pub note: crate::task::EventNote,
}

#[cfg(test)]
mod tests {
    use kubetask_api::TaskSpec;

    use super::*;

    #[test]
    fn the_maker_is_who_controls() {
        let owner = |kind: &str, version: &str, controller| OwnerReference {
            api_version: version.to_owned(),
            kind: kind.to_owned(),
            name: "m".to_owned(),
            uid: "u".to_owned(),
            controller,
            block_owner_deletion: None,
        };
        let maker = |owners: Vec<OwnerReference>| {
            Maker::of(&ObjectMeta { owner_references: Some(owners), ..ObjectMeta::default() }).map(|m| m.kind)
        };
        assert_eq!(maker(vec![owner("CronTask", API_VERSION, Some(true))]), Some(MakerKind::CronTask));
        assert_eq!(maker(vec![owner("BatchRun", API_VERSION, Some(true))]), Some(MakerKind::BatchRun));
        assert_eq!(maker(vec![owner("CronTask", API_VERSION, None)]), None);
        assert_eq!(maker(vec![owner("CronTask", "acme.test/v1", Some(true))]), None);
        assert_eq!(maker(vec![owner("Task", API_VERSION, Some(true))]), None);
    }

    #[test]
    fn a_child_is_what_its_maker_looks_at() {
        let mut task = Task::new("t", TaskSpec::default());
        task.metadata.annotations = Some([(labels::BATCH_INDEX.to_owned(), "7".to_owned())].into());
        let child = Child::of(&task);
        assert_eq!((child.index, child.is_open(), child.going, child.archived), (Some(7), true, false, false));
        task.metadata.annotations = Some([(labels::SKIP_ARCHIVE.to_owned(), "true".to_owned())].into());
        assert!(Child::of(&task).archived);
    }
}
