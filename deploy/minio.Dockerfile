# MinIO from source, for compose.yaml: its project publishes no current images. The version is that of
# tests/support/build-minio.sh.
FROM golang:1.26-bookworm AS build
ARG MINIO_VERSION=v0.0.0-20260212201848-7aac2a2c5b7c
RUN CGO_ENABLED=0 GOBIN=/out go install github.com/minio/minio@${MINIO_VERSION}
# A directory in MinIO's root is a bucket.
RUN mkdir -p /data/shoal

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/minio /usr/local/bin/minio
COPY --from=build --chown=nonroot:nonroot /data /data
VOLUME /data
ENTRYPOINT ["/usr/local/bin/minio"]
CMD ["server", "/data", "--address", ":9000"]
