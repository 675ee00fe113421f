# Encodes, searches and serves on a processor, from bundles: there is no torch in it.
#   docker build -t anglehash .
#   docker run --rm -v "$PWD:/data" anglehash index bundle/ photos/ -o gallery/
FROM python:3.11-slim

COPY constraints.txt pyproject.toml README.md LICENSE /source/
COPY src /source/src
RUN pip install --no-cache-dir --no-compile -c /source/constraints.txt '/source[serve]' && rm -r /source \
    && useradd --create-home anglehash

ENV OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
USER anglehash
WORKDIR /data
ENTRYPOINT ["anglehash"]
CMD ["--help"]
