//! Objects as watches bring them, without what nobody here reads.
//!
//! A third of an object and more tells who manages which of its fields, and a Pod's containers are most of it. To read
//! that and drop it again costs as much as everything else a watch does, and leaves holes in the memory. So it is not even
//! read: [`Lean`] passes over it in the text.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event as CoreEvent, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::watcher::Event;
use kubetask_api::{Agent, Batch, BatchRun, CronTask, KubeTaskConfig, Task};
use serde::de::{
    Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, Error, IgnoredAny, IntoDeserializer, MapAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;

/// A field, and what of it is not read.
type Unread = (&'static str, Part);

/// What of a field is not read.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    /// All of it.
    All,
    /// These fields of it.
    Fields(&'static [Unread]),
}

/// Who manages which fields, and what `kubectl apply` noted for itself.
const METADATA: Unread = ("metadata", Part::Fields(&[("managedFields", Part::All), NOTED]));
const NOTED: Unread = ("annotations", Part::Fields(&[("kubectl.kubernetes.io/last-applied-configuration", Part::All)]));

/// What is watched.
pub(crate) trait Watched:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + fmt::Debug + DeserializeOwned + Send + 'static
{
    /// What of it nobody here reads.
    const UNREAD: &'static [Unread] = &[METADATA];
}

impl Watched for Task {}
impl Watched for Agent {}
impl Watched for KubeTaskConfig {}
impl Watched for CronTask {}
impl Watched for Batch {}
impl Watched for BatchRun {}
impl Watched for CoreEvent {}

impl<K> Watched for PartialObjectMeta<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + fmt::Debug + Send + 'static,
{
    const UNREAD: &'static [Unread] = &[(
        "metadata",
        Part::Fields(&[("managedFields", Part::All), ("annotations", Part::All), ("labels", Part::All)]),
    )];
}

impl Watched for Job {
    const UNREAD: &'static [Unread] =
        &[METADATA, ("spec", Part::Fields(&[("template", Part::All), ("selector", Part::All)]))];
}

impl Watched for Pod {
    const UNREAD: &'static [Unread] = &[
        METADATA,
        (
            "spec",
            Part::Fields(&[
                ("affinity", Part::All),
                ("containers", Part::All),
                ("ephemeralContainers", Part::All),
                ("initContainers", Part::All),
                ("tolerations", Part::All),
                ("volumes", Part::All),
            ]),
        ),
    ];
}

/// An object without what is not read of it.
#[derive(Clone, Debug)]
pub(crate) struct Lean<K>(K);

impl<K> Lean<K> {
    /// The object in an event.
    pub(crate) fn of(event: Event<Self>) -> Event<K> {
        match event {
            Event::Apply(Self(object)) => Event::Apply(object),
            Event::Delete(Self(object)) => Event::Delete(object),
            Event::Init => Event::Init,
            Event::InitApply(Self(object)) => Event::InitApply(object),
            Event::InitDone => Event::InitDone,
        }
    }
}

impl<K: Resource> Resource for Lean<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(which: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(which)
    }

    fn group(which: &Self::DynamicType) -> Cow<'_, str> {
        K::group(which)
    }

    fn version(which: &Self::DynamicType) -> Cow<'_, str> {
        K::version(which)
    }

    fn plural(which: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(which)
    }

    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

impl<'de, K: Watched> Deserialize<'de> for Lean<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        K::deserialize(Without { inner: deserializer, unread: K::UNREAD }).map(Self)
    }
}

/// Something that is passed on, but for what is not read.
struct Without<T> {
    inner: T,
    unread: &'static [Unread],
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Without<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(Without { inner: visitor, unread: self.unread })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_map(Without { inner: visitor, unread: self.unread })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_struct(name, fields, Without { inner: visitor, unread: self.unread })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_option(Without { inner: visitor, unread: self.unread })
    }

    // Nothing else has fields.
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct enum identifier ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Without<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Fields { map, unread: self.unread, deeper: &[] })
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(Without { inner: deserializer, unread: self.unread })
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Without<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Without { inner: deserializer, unread: self.unread })
    }
}

/// The fields of an object, but for what is not read.
struct Fields<A> {
    map: A,
    unread: &'static [Unread],
    /// What is not read of the field that comes now.
    deeper: &'static [Unread],
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Fields<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        while let Some(Name(name)) = self.map.next_key()? {
            self.deeper = match self.unread.iter().find(|(field, _)| *field == name) {
                Some((_, Part::All)) => {
                    self.map.next_value::<IgnoredAny>()?;
                    continue;
                }
                Some((_, Part::Fields(fields))) => fields,
                None => &[],
            };
            return seed.deserialize(name.into_deserializer()).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        if self.deeper.is_empty() {
            return self.map.next_value_seed(seed);
        }
        self.map.next_value_seed(Without { inner: seed, unread: self.deeper })
    }
}

/// A field's name; borrowed from the text where that is possible.
struct Name<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor(PhantomData))
    }
}

struct NameVisitor<'de>(PhantomData<&'de str>);

impl<'de> Visitor<'de> for NameVisitor<'de> {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Borrowed(name)))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Owned(name.to_owned())))
    }

    fn visit_string<E: Error>(self, name: String) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Owned(name)))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::core::{ObjectList, WatchEvent};
    use serde_json::{Value, json};

    use super::*;

    fn metadata() -> Value {
        json!({
            "name": "x", "namespace": "n", "labels": {"a": "b"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "other": "1"},
            // Not even looked at: this is no list.
            "managedFields": {"a": [1, "]}", {"b": null}]},
            "uid": "u", "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "o", "uid": "1"}],
        })
    }

    #[test]
    fn what_is_read_stays_and_what_is_not_goes() {
        let task = json!({
            "apiVersion": "kubetask.io/v1alpha1", "kind": "Task", "metadata": metadata(),
            "spec": {"prompt": "say \"hi\"\n", "agentRef": "a"}, "status": {"phase": "Running"},
        });
        let Lean(read) = serde_json::from_str::<Lean<Task>>(&task.to_string()).unwrap();
        let mut expected = task.clone();
        expected["metadata"].as_object_mut().unwrap().remove("managedFields");
        expected["metadata"]["annotations"] = json!({"other": "1"});
        let expected: Task = serde_json::from_value(expected).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::to_value(&expected).unwrap());
        // From other than text, too.
        let Lean(again) = serde_json::from_value::<Lean<Task>>(task).unwrap();
        assert_eq!(serde_json::to_value(again).unwrap(), serde_json::to_value(expected).unwrap());
    }

    #[test]
    fn pods_and_jobs_come_without_their_containers() {
        let spec = json!({
            "nodeName": "node", "activeDeadlineSeconds": 5, "volumes": [{"name": "v"}],
            "containers": [{"name": "c"}], "initContainers": 1,
        });
        let text = json!({"metadata": metadata(), "spec": spec, "status": {"phase": "Running"}}).to_string();
        let Lean(pod) = serde_json::from_str::<Lean<Pod>>(&text).unwrap();
        let read = pod.spec.unwrap();
        assert_eq!((read.node_name.as_deref(), read.active_deadline_seconds), (Some("node"), Some(5)));
        assert!(read.containers.is_empty() && read.init_containers.is_none() && read.volumes.is_none());
        assert_eq!(pod.status.unwrap().phase.as_deref(), Some("Running"));
        assert_eq!(pod.metadata.owner_references.unwrap().len(), 1);
        let text = json!({"metadata": metadata(), "spec": {"backoffLimit": 2, "template": {"spec": spec}}}).to_string();
        let Lean(job) = serde_json::from_str::<Lean<Job>>(&text).unwrap();
        assert_eq!(job.spec.unwrap().backoff_limit, Some(2));
    }

    #[test]
    fn lists_and_watches_of_them_are_read() {
        let object = json!({"metadata": metadata(), "data": {"k": "v"}});
        let list = json!({"kind": "L", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": [object]});
        type Only = Lean<PartialObjectMeta<ConfigMap>>;
        let read: ObjectList<Only> = serde_json::from_str(&list.to_string()).unwrap();
        assert_eq!(read.metadata.resource_version.as_deref(), Some("7"));
        let metadata = read.items[0].meta();
        assert_eq!((metadata.name.as_deref(), metadata.uid.as_deref()), (Some("x"), Some("u")));
        assert!(metadata.labels.is_none() && metadata.annotations.is_none() && metadata.managed_fields.is_none());
        // The type may come last.
        for text in
            [format!(r#"{{"type":"ADDED","object":{object}}}"#), format!(r#"{{"object":{object},"type":"ADDED"}}"#)]
        {
            let event: WatchEvent<Only> = serde_json::from_str(&text).unwrap();
            assert!(matches!(event, WatchEvent::Added(object) if object.meta().name.as_deref() == Some("x")));
        }
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        for text in ["[]", "1", "\"x\"", r#"{"metadata":[]}"#, r#"{"metadata":{"managedFields":[}}"#] {
            assert!(serde_json::from_str::<Lean<Pod>>(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Lean<Pod>>(r#"{"metadata":null,"spec":null}"#).is_ok());
    }
}
