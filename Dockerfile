# One image for web, workers and the commands.
#
#   docker build -t imagingx-portal .                                     torch for CPUs
#   docker build -t imagingx-portal:cuda --build-arg TORCH=cuda .         torch for NVIDIA GPUs
FROM python:3.12-slim-bookworm

ARG TORCH=cpu
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu

# State: scratch of a worker, the signing key and caches. Data: folders that recipes read.
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/imagingx imagingx \
    && install -d -o imagingx -g imagingx /var/lib/imagingx /srv/data /srv/uploads
ENV HOME=/var/lib/imagingx \
    IMAGINGX_STATE_DIR=/var/lib/imagingx \
    IMAGINGX_DATA_ROOT=/srv/data \
    PYTHONUNBUFFERED=1

WORKDIR /app
COPY requirements.txt ./
# requirements.txt pins every package: nothing is resolved here. Only torch comes from the other index.
RUN if [ "$TORCH" = cpu ]; then \
        pip install --no-cache-dir --no-deps --index-url "$TORCH_CPU_INDEX" \
            "$(sed -nE 's/^(torch==[^ ;]+).*/\1+cpu/p' requirements.txt)" \
        && sed -E '/^(torch==|nvidia-|cuda-|triton)/d' requirements.txt >/tmp/pinned.txt; \
    else \
        cp requirements.txt /tmp/pinned.txt; \
    fi \
    && pip install --no-cache-dir --no-deps -r /tmp/pinned.txt \
    && rm /tmp/pinned.txt
COPY . .
# Workers and their children start often: none should compile our code again.
RUN python -m compileall -q .

USER 10001:10001
VOLUME /var/lib/imagingx
EXPOSE 8000
CMD ["gunicorn", "portal.wsgi:application", "--bind", "0.0.0.0:8000", \
     "--worker-class", "gthread", "--workers", "2", "--threads", "8", \
     "--timeout", "120", "--graceful-timeout", "10", "--worker-tmp-dir", "/dev/shm"]
