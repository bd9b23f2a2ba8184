// Opens bundles with Transformers.js: nothing here is edgetfm's. It runs in the folder that has
// node_modules, reads a list of jobs (JSON) from stdin and writes the list of answers to stdout.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const require = createRequire(join(process.cwd(), 'package.json'));
const { env, pipeline } = await import(
  pathToFileURL(require.resolve('@huggingface/transformers').replace(/\.cjs$/, '.mjs')).href
);
env.allowRemoteModels = false;

const plain = (answer) =>
  answer?.dims ? { shape: answer.dims, values: Array.from(answer.data, Number) } : answer;

const answers = [];
for (const job of JSON.parse(readFileSync(0, 'utf-8'))) {
  const ask = await pipeline(job.pipeline, job.bundle);
  const replies = [];
  for (const words of job.inputs) replies.push(plain(await ask(...words, job.options)));
  answers.push(replies);
  await ask.dispose();
}
process.stdout.write(JSON.stringify(answers));
