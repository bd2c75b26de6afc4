// Usage: node find.js
//
// Answers requests, a line of JSON each: {"url": URL, "dir": DIR, "paths": [PATH...]}.
// Walks the repository with tuf-js from DIR/metadata/root.json on. "found" has for
// each target path what it downloaded, or null where there is no such target;
// "error" says what went wrong.
const { Updater } = require('tuf-js');
const fs = require('fs');
const path = require('path');
const readline = require('readline');

async function find({ url, dir, paths }) {
  const updater = new Updater({
    metadataDir: path.join(dir, 'metadata'),
    metadataBaseUrl: url + '/metadata',
    targetDir: path.join(dir, 'targets'),
    targetBaseUrl: url + '/targets',
  });
  await updater.refresh();
  const found = {};
  for (const p of paths) {
    const info = await updater.getTargetInfo(p);
    const file = path.join(dir, 'targets', encodeURIComponent(p));
    found[p] = info ? fs.readFileSync(await updater.downloadTarget(info, file), 'utf8') : null;
  }
  return { found };
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const answer = await find(JSON.parse(line)).catch((err) => ({ error: String(err.stack || err) }));
    console.log(JSON.stringify(answer));
  }
}

main();
