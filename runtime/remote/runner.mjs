// What a job asks, answered through onnxruntime-web: in Node (`node runner.mjs FOLDER`, from the
// folder that has node_modules) and in a page, which imports `answer` and gives it its own ways to
// read and to write. Same job, same result as runner.py.

const BYTES = {
  float32: Float32Array, float64: Float64Array, float16: Uint16Array, bool: Uint8Array,
  int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array,
  int32: Int32Array, uint32: Uint32Array, int64: BigInt64Array, uint64: BigUint64Array,
};

class Failed extends Error {
  constructor(stage, error) { super(String(error?.message ?? error)); this.stage = stage; }
}

// ort: the module. job: of job.json. read(name): a file of the folder as a Uint8Array. lines: where
// what the runtime prints arrives, line by line. Returns the result and the bytes of answers.bin.
export async function answer(ort, job, read, machine, lines = []) {
  const result = {
    schema: 1, runtime: `onnxruntime-web ${ort.env.versions.web ?? ort.env.versions.common}`,
    machine, error: null, peak_bytes: null,
  };
  const chunks = [];
  try {
    Object.assign(result, await replay(ort, job, read, chunks, lines));
  } catch (error) {
    if (!(error instanceof Failed)) throw error;
    result.error = { stage: error.stage, message: error.message };
  }
  return [result, joined(chunks)];
}

async function replay(ort, job, read, chunks, lines) {
  ort.env.wasm.numThreads = job.threads;
  const held = (await read('cases.bin')).slice().buffer;
  const place = { at: 0 };
  const answers = [];
  const times = [];
  const placement = {}, fallen = {};
  let sessions = [], fixed = null, loadMs = 0, feeds = {}, profiled = false;
  for (const one of job.cases) {
    if (JSON.stringify(one.dimensions) !== fixed) {
      fixed = JSON.stringify(one.dimensions);
      for (const session of sessions) await session.release();
      const start = performance.now();
      sessions = [];
      for (const graph of job.graphs) {
        sessions.push(await load(ort, job, await files(graph.file, read), one.dimensions));
      }
      loadMs ||= performance.now() - start;
      profiled = job.provider.name in PROVIDERS;
    }
    feeds = tensors(ort, held, one.inputs);
    const given = await ask(job, sessions, feeds);
    answers.push(write(job.outputs.map((name) => [name, given[name]]), chunks, place));
    if (profiled) {  // the first call of these sessions, which were loaded to be
      profiled = false;
      lines.length = 0;
      for (const session of sessions) session.endProfiling();
      const found = placed(lines, job.provider);
      if (!Object.keys(found.placement).length) {
        throw new Failed('load', 'the runtime does not tell where the nodes went');
      }
      addMost(placement, found.placement);
      addMost(fallen, found.fallen);
    }
  }
  for (let turn = 0; job.runs && turn < job.warm_up + job.runs; turn++) {
    const start = performance.now();
    await ask(job, sessions, feeds);
    if (turn >= job.warm_up) times.push(performance.now() - start);
  }
  return {
    answers, placement: Object.keys(placement).length ? placement : null, fallen_back: fallen,
    load_ms: loadMs, times_ms: times,
  };
}

// A graph and, where its weights lie beside it, those too.
async function files(file, read) {
  const data = await read(`${file}_data`).catch(() => null);
  const name = file.split('/').pop();
  return { graph: await read(file), external: data && [{ path: `${name}_data`, data }] };
}

async function load(ort, job, { graph, external }, dimensions) {
  const { disabled_optimizers: without, config_entries: entries } = job.settings;
  const extra = {};
  for (const [key, value] of Object.entries(entries)) put(extra, key.split('.'), value);
  if (without.length) {
    put(extra, ['optimization', 'disable_specified_optimizers'], without.join(';'));
  }
  const options = {
    executionProviders: [{ name: job.provider.name, ...job.provider.options }],
    graphOptimizationLevel: job.optimize ? 'all' : 'disabled',
    freeDimensionOverrides: dimensions,
    extra,
  };
  // Where each node went is told in a profile alone; of wasm it is no question.
  if (job.provider.name in PROVIDERS) options.enableProfiling = true;
  if (external) options.externalData = external;
  try {
    return await ort.InferenceSession.create(graph, options);
  } catch (error) {
    throw new Failed('load', error);
  }
}

function put(tree, [first, ...rest], value) {
  if (rest.length) put(tree[first] ??= {}, rest, value);
  else tree[first] = value;
}

async function ask(job, sessions, feeds) {
  const known = { ...feeds };
  for (const [at, graph] of job.graphs.entries()) {
    // What the graph has a value for is no input to this runtime, and keeps that value.
    const { inputNames } = sessions[at];
    const taken = Object.entries(graph.takes).filter(([name]) => inputNames.includes(name));
    const inputs = Object.fromEntries(taken.map(([name, source]) => [name, known[source]]));
    let given;
    try {
      given = await sessions[at].run(inputs, Object.keys(graph.gives));
    } catch (error) {
      throw new Failed('run', error);
    }
    for (const [output, name] of Object.entries(graph.gives)) known[name] = given[output];
  }
  return known;
}

function tensors(ort, held, said) {
  return Object.fromEntries(Object.entries(said).map(([name, { dtype, shape, offset }]) => {
    const count = shape.reduce((all, size) => all * size, 1);
    return [name, new ort.Tensor(dtype, new BYTES[dtype](held, offset, count), shape)];
  }));
}

function write(named, chunks, place) {
  const said = {};
  for (const [name, tensor] of named) {
    const gap = (64 - (place.at % 64)) % 64;
    if (gap) chunks.push(new Uint8Array(gap));
    const { buffer, byteOffset, byteLength } = tensor.data;
    said[name] = { dtype: tensor.type, shape: [...tensor.dims], offset: place.at + gap };
    chunks.push(new Uint8Array(buffer, byteOffset, byteLength).slice());
    place.at += gap + byteLength;
  }
  return said;
}

function joined(chunks) {
  const whole = new Uint8Array(chunks.reduce((all, chunk) => all + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) { whole.set(chunk, at); at += chunk.length; }
  return whole;
}

const SHAPE_OPS = new Set(['Add', 'Cast', 'Concat', 'Constant', 'ConstantOfShape', 'Div', 'Equal',
  'Expand', 'Gather', 'Greater', 'Identity', 'Less', 'Max', 'Min', 'Mod', 'Mul', 'Range',
  'ReduceProd', 'Reshape', 'Shape', 'Size', 'Slice', 'Squeeze', 'Sub', 'Unsqueeze', 'Where']);

const SHAPE_TYPES = new Set(['int64', 'int32', 'bool']);

const PROVIDERS = { webgpu: ['WebGpuExecutionProvider', 'JsExecutionProvider'] };

// Where each node ran and what it gave, from the profile of a call, which the runtime prints a line
// an event: {placement: {provider: nodes}, fallen: {operator: nodes}}. Arithmetic of shapes may be
// the CPU's: of integers, or of floats of one element.
export function placed(lines, provider) {
  const nodes = new Map();
  for (const [at, event] of lines.map(eventOf).entries()) {
    const about = event?.args;
    if (event?.cat !== 'Node' || !about.provider || !event.name.endsWith('_kernel_time')) continue;
    nodes.set(`${about.node_index ?? at} ${event.name}`, about);
  }
  const placement = {}, fallen = {};
  for (const { provider: where, op_name: operator, output_type_shape: given } of nodes.values()) {
    placement[where] = (placement[where] ?? 0) + 1;
    if (PROVIDERS[provider.name].includes(where) || operator.startsWith('Memcpy')) continue;
    const shapes = given.flatMap((one) => Object.entries(one));
    const small = shapes.every(([kind, shape]) => SHAPE_TYPES.has(kind) || elements(shape) < 2);
    if (!SHAPE_OPS.has(operator) || !small) fallen[operator] = (fallen[operator] ?? 0) + 1;
  }
  return { placement, fallen };
}

function eventOf(line) {
  const text = line.trim().replace(/,$/, '');
  if (!text.startsWith('{"cat"')) return null;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Failed('load', `a line of the profile cannot be read (${error.message}): ${text}`);
  }
}

const elements = (shape) => shape.reduce((all, size) => all * size, 1);

function addMost(counts, found) {
  for (const [name, some] of Object.entries(found)) {
    counts[name] = Math.max(counts[name] ?? 0, some);
  }
}

if (typeof process !== 'undefined' && process.argv?.[1]?.endsWith('runner.mjs')) {
  const { readFile, writeFile } = await import('node:fs/promises');
  const { createRequire } = await import('node:module');
  const { pathToFileURL } = await import('node:url');
  const path = await import('node:path');
  const [folder, modules] = process.argv.slice(2);
  const found = createRequire(`${modules}/`).resolve('onnxruntime-web');
  const ort = await import(pathToFileURL(found));
  const read = async (name) => new Uint8Array(await readFile(path.join(folder, name)));
  const job = JSON.parse(await readFile(path.join(folder, 'job.json'), 'utf8'));
  const machine = { architecture: process.arch, system: `Node ${process.version}` };
  const module = ort.InferenceSession ? ort : ort.default;
  const [result, bytes] = await answer(module, job, read, machine);
  await writeFile(path.join(folder, 'answers.bin'), bytes);
  await writeFile(path.join(folder, 'result.json'), JSON.stringify(result));
  process.exit(0);  // the runtime's threads would keep it alive
}
