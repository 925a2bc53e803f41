# Two images from one file, with docker, podman or buildah:
#   docker build -t flow-lens .                                    the agent (last stage): runs on every node
#   docker build -t flow-lens-controller --target controller .     the controller: one per cluster
# --build-arg WITH_BCC=0 leaves out the second engine, its compiler and two thirds of the agent's size.
# Nothing here names an architecture: the BPF object is the same for all little-endian machines.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS object
RUN apt-get update \
 && apt-get install -y --no-install-recommends clang libbpf-dev linux-libc-dev make \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Makefile ./
COPY bpf bpf
RUN mkdir flowlens && make flowlens/flowlens.bpf.o

# Debian's pip stays outside of the environment, so no image carries one.
FROM ${BASE} AS libraries
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-pip python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
RUN python3 -m venv --without-pip /opt/flow-lens
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_PYTHON=/opt/flow-lens/bin/python
COPY requirements.txt ./
RUN python3 -m pip install --require-hashes -r requirements.txt

# The sources of the programs travel inside the package: engine bcc compiles them on the node.
FROM libraries AS package
COPY pyproject.toml README.md LICENSE ./
COPY LICENSES LICENSES
COPY flowlens flowlens
COPY bpf bpf
COPY --from=object /src/flowlens/flowlens.bpf.o flowlens/
RUN python3 -m pip install --no-deps --no-build-isolation . \
 && python3 -m pip uninstall -y editables hatchling packaging pathspec pluggy tomlkit trove-classifiers

FROM package AS package-controller
COPY requirements-controller.txt ./
RUN python3 -m pip install --no-compile --require-hashes -r requirements-controller.txt

FROM ${BASE} AS runtime
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/flow-lens/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["flowlens"]

FROM runtime AS controller
COPY --from=package-controller /opt/flow-lens /opt/flow-lens
USER 65532:65532
CMD ["controller", "--listen", "0.0.0.0:2113"]

FROM runtime AS agent
ARG WITH_BCC=1
RUN apt-get update \
 && apt-get install -y --no-install-recommends libbpf1 $([ "$WITH_BCC" = 0 ] || echo python3-bpfcc) \
 && rm -rf /var/lib/apt/lists/*
COPY --from=package /opt/flow-lens /opt/flow-lens
# uid 0 because the kernel gives a container's capabilities to no other user; the chart drops all but three.
CMD ["agent", "--listen", "0.0.0.0:2112"]
