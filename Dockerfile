# docker build .                         CPU
# docker build --target cuda .           NVIDIA GPU
# docker build --build-arg NATIVE=ON .   faster, for processors like the building machine's only
# docker build --build-arg EMBEDDINGS=ON .   with an embedding model (docs/file-search.md)
# docker build --build-arg PACKAGES=OFF .   without the packages of models' code (docs/code-interpreter.md)
#
# With NATIVE=OFF llama.cpp is built for any x86-64 processor with AVX2 (x86-64-v3), or any arm64.

ARG PYTHON_IMAGE=python:3.12-slim-bookworm
ARG CUDA_BUILD_IMAGE=nvidia/cuda:12.8.1-devel-ubuntu24.04
ARG CUDA_IMAGE=nvidia/cuda:12.8.1-runtime-ubuntu24.04

FROM ${CUDA_BUILD_IMAGE} AS cuda-build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
ARG NATIVE=OFF
ARG EMBEDDINGS=OFF
ARG PACKAGES=ON
RUN tools/install_image.sh cuda "${NATIVE}" "${EMBEDDINGS}" "${PACKAGES}" /opt/assistants

FROM ${CUDA_IMAGE} AS cuda
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 libstdc++6 python3 \
    && rm -rf /var/lib/apt/lists/* \
    && mkdir -m 0755 /data /models \
    && mkdir /run/sandbox \
    && chown 10001:10001 /data \
    && chown 0:10001 /run/sandbox \
    && chmod 2750 /run/sandbox
COPY --from=cuda-build /opt/assistants /opt/assistants
ENV PATH=/opt/assistants/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    ASSISTANTS_SERVER__HOST=0.0.0.0 \
    ASSISTANTS_SERVER__DATA_DIR=/data \
    ASSISTANTS_MODELS__DIRECTORY=/models
USER 10001:10001
WORKDIR /data
VOLUME ["/data", "/models"]
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:8000/healthz')"]
ENTRYPOINT ["assistants"]
CMD ["serve"]

FROM ${PYTHON_IMAGE} AS cpu-build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
ARG NATIVE=OFF
ARG EMBEDDINGS=OFF
ARG PACKAGES=ON
RUN tools/install_image.sh cpu "${NATIVE}" "${EMBEDDINGS}" "${PACKAGES}" /opt/assistants

FROM ${PYTHON_IMAGE} AS cpu
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && mkdir -m 0755 /data /models \
    && mkdir /run/sandbox \
    && chown 10001:10001 /data \
    && chown 0:10001 /run/sandbox \
    && chmod 2750 /run/sandbox
COPY --from=cpu-build /opt/assistants /opt/assistants
ENV PATH=/opt/assistants/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    ASSISTANTS_SERVER__HOST=0.0.0.0 \
    ASSISTANTS_SERVER__DATA_DIR=/data \
    ASSISTANTS_MODELS__DIRECTORY=/models
USER 10001:10001
WORKDIR /data
VOLUME ["/data", "/models"]
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:8000/healthz')"]
ENTRYPOINT ["assistants"]
CMD ["serve"]
