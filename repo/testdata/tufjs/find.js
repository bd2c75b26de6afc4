// Usage: node find.js URL DIR PATH...
//
// Walks a repository with tuf-js from DIR/metadata/root.json on, and prints for
// each target path what it downloaded, or null where there is no such target.
const { Updater } = require('tuf-js');
const fs = require('fs');
const path = require('path');

async function main([url, dir, ...paths]) {
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
  console.log(JSON.stringify(found));
}

main(process.argv.slice(2)).catch((err) => {
  console.error(err);
  process.exit(1);
});
