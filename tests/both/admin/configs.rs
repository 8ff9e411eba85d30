use super::*;
use crate::support::target::on_each;

on_each!(
    [on_the_fake_cluster, on_real_kafka]
    settings_are_described_with_their_sources,
    settings_are_set_and_taken_away_and_the_others_stay,
    a_bad_change_among_good_ones_fails_alone,
    changes_that_are_only_checked_change_nothing,
    brokers_have_settings_of_their_own_and_in_common,
);

mod promises {
    use std::collections::BTreeMap;

    use kafka_blocking::BrokerId;
    use kafka_blocking::admin::{AlterConfig, ConfigEntry, ConfigResource, ConfigSource, NewTopic};

    use super::*;

    fn configs(admin: &Admin, resource: &ConfigResource) -> BTreeMap<String, ConfigEntry> {
        admin.describe_configs([resource.clone()]).all().unwrap().remove(resource).unwrap()
    }

    /// What is said of a setting once it has this value and source: brokers heed a change a moment later.
    fn becomes(admin: &Admin, resource: &ConfigResource, name: &str, value: &str, source: ConfigSource) {
        wait_for(name, MINUTE, || {
            let entry = configs(admin, resource).remove(name)?;
            (entry.value.as_deref() == Some(value) && entry.source == source).then_some(())
        });
    }

    fn created(target: &Target, admin: &Admin, suffix: &str) -> ConfigResource {
        let topic = target.topic(suffix);
        admin.create_topics([NewTopic::new(&*topic).config("retention.ms", "5000")]).all().unwrap();
        described(admin, &topic);
        ConfigResource::topic(topic)
    }

    pub(super) fn settings_are_described_with_their_sources(target: &Target) {
        let admin = target.admin();
        let topic = created(target, &admin, "a");
        let found = configs(&admin, &topic);
        let own = &found["retention.ms"];
        assert_eq!((own.value.as_deref(), own.source), (Some("5000"), ConfigSource::Topic));
        assert!(!own.is_read_only && !own.is_sensitive);
        let default = &found["cleanup.policy"];
        assert_eq!((default.value.as_deref(), default.source), (Some("delete"), ConfigSource::Default));

        let missing = target.topic("missing");
        let resources = [ConfigResource::topic(&*missing), ConfigResource::topic("no such name"), topic.clone()];
        let results = admin.describe_configs(resources);
        assert_eq!(results.get(&topic).unwrap().as_ref().unwrap(), &found);
        refused(results.get(&ConfigResource::topic(&*missing)), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, &missing);
        invalid(results.get(&ConfigResource::topic("no such name")), "' '");
    }

    pub(super) fn settings_are_set_and_taken_away_and_the_others_stay(target: &Target) {
        let admin = target.admin();
        let topic = created(target, &admin, "a");
        let change = |change: AlterConfig| admin.alter_configs([(topic.clone(), [change])]).all().unwrap();
        change(AlterConfig::set("max.message.bytes", "2000"));
        becomes(&admin, &topic, "max.message.bytes", "2000", ConfigSource::Topic);
        becomes(&admin, &topic, "retention.ms", "5000", ConfigSource::Topic);
        change(AlterConfig::delete("max.message.bytes"));
        becomes(&admin, &topic, "max.message.bytes", "1048588", ConfigSource::Default);
        becomes(&admin, &topic, "retention.ms", "5000", ConfigSource::Topic);
        change(AlterConfig::append("cleanup.policy", "compact"));
        becomes(&admin, &topic, "cleanup.policy", "delete,compact", ConfigSource::Topic);
        // What is there already stays once.
        change(AlterConfig::append("cleanup.policy", "compact"));
        change(AlterConfig::subtract("cleanup.policy", "delete"));
        becomes(&admin, &topic, "cleanup.policy", "compact", ConfigSource::Topic);
    }

    pub(super) fn a_bad_change_among_good_ones_fails_alone(target: &Target) {
        let admin = target.admin();
        let (good, bad) = (created(target, &admin, "good"), created(target, &admin, "bad"));
        let missing = ConfigResource::topic(target.topic("missing"));
        let list = created(target, &admin, "list");
        let set = AlterConfig::set;
        let results = admin.alter_configs([
            (bad.clone(), vec![set("retention.ms", "7000"), set("no.such.setting", "1")]),
            (good.clone(), vec![set("retention.ms", "6000")]),
            (missing.clone(), vec![set("retention.ms", "6000")]),
            (list.clone(), vec![AlterConfig::append("retention.ms", "6000")]),
            (ConfigResource::topic("no such name"), vec![]),
        ]);
        assert!(results.get(&good).unwrap().is_ok());
        refused(results.get(&bad), ErrorCode::INVALID_CONFIG, &target.topic("bad"));
        let text = results.get(&bad).unwrap().as_ref().unwrap_err().to_string();
        assert!(text.contains("no.such.setting"), "{text}");
        refused(results.get(&missing), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, &target.topic("missing"));
        refused(results.get(&list), ErrorCode::INVALID_CONFIG, &target.topic("list"));
        invalid(results.get(&ConfigResource::topic("no such name")), "' '");
        becomes(&admin, &good, "retention.ms", "6000", ConfigSource::Topic);
        // Of one topic either all changes are made or none.
        becomes(&admin, &bad, "retention.ms", "5000", ConfigSource::Topic);

        let twice = admin.alter_configs([(good.clone(), vec![]), (good.clone(), vec![set("retention.ms", "1")])]);
        invalid(twice.get(&good), "twice");
    }

    pub(super) fn changes_that_are_only_checked_change_nothing(target: &Target) {
        let admin = target.admin();
        let topic = created(target, &admin, "a");
        let check = |value: &str| {
            admin.validate_only().alter_configs([(topic.clone(), [AlterConfig::set("retention.ms", value)])])
        };
        check("6000").all().unwrap();
        refused(check("soon").get(&topic), ErrorCode::INVALID_CONFIG, &target.topic("a"));
        becomes(&admin, &topic, "retention.ms", "5000", ConfigSource::Topic);
    }

    pub(super) fn brokers_have_settings_of_their_own_and_in_common(target: &Target) {
        let admin = target.admin();
        let id = admin.describe_cluster().unwrap().brokers[0].id;
        let (broker, every) = (ConfigResource::Broker(id), ConfigResource::EveryBroker);
        let change = |resource: &ConfigResource, change: AlterConfig| {
            admin.alter_configs([(resource.clone(), [change])]).all().unwrap();
        };
        change(&every, AlterConfig::set("log.cleaner.threads", "2"));
        becomes(&admin, &every, "log.cleaner.threads", "2", ConfigSource::EveryBroker);
        becomes(&admin, &broker, "log.cleaner.threads", "2", ConfigSource::EveryBroker);
        change(&broker, AlterConfig::set("log.cleaner.threads", "1"));
        becomes(&admin, &broker, "log.cleaner.threads", "1", ConfigSource::Broker);
        becomes(&admin, &every, "log.cleaner.threads", "2", ConfigSource::EveryBroker);
        change(&broker, AlterConfig::delete("log.cleaner.threads"));
        change(&every, AlterConfig::delete("log.cleaner.threads"));
        wait_for("the deletion", MINUTE, || {
            let entry = configs(&admin, &broker).remove("log.cleaner.threads");
            entry.is_none_or(|entry| entry.source == ConfigSource::Default).then_some(())
        });

        // A broker that is not there is waited for no longer than the call may take.
        let hasty = Admin::builder(&target.bootstrap).api_timeout(Duration::from_secs(2)).build().unwrap();
        let (nobody, topic) = (ConfigResource::Broker(BrokerId(77)), created(target, &admin, "a"));
        let results = hasty.describe_configs([nobody.clone(), topic.clone()]);
        assert!(results.get(&topic).unwrap().is_ok());
        let error = results.get(&nobody).unwrap().as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout(kafka_blocking::Timeout::Api), "{error:?}");
        assert_eq!(error.context().broker, Some(BrokerId(77)));
        assert!(format!("{error:#}").contains("the cluster lists no such broker"), "{error:#}");
    }
}
