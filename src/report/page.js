(() => {
  const tip = document.createElement('div');
  tip.className = 'tip';
  document.body.append(tip);
  for (const svg of document.querySelectorAll('svg.lines')) {
    let curves = null;
    const cursor = svg.querySelector('.cursor');
    const read = () => [...svg.querySelectorAll('polyline[data-x]')].map(line => ({
      name: line.parentNode.dataset.name,
      at: line.getAttribute('points').split(' ').map(point => parseFloat(point)),
      x: line.dataset.x.split(' '), y: line.dataset.y.split(' ')}));
    const hide = () => { tip.style.visibility = 'hidden'; cursor.style.visibility = 'hidden'; };
    const show = event => {
      curves = curves || read();
      const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).x;
      let lines = [], nearest = null;
      for (const curve of curves) {
        let best = 0;
        curve.at.forEach((x, i) => { if (Math.abs(x - place) < Math.abs(curve.at[best] - place)) best = i; });
        const distance = Math.abs(curve.at[best] - place);
        if (distance > 14) continue;
        if (!nearest || distance < nearest.distance) nearest = {distance, at: curve.at[best], x: curve.x[best]};
        lines.push(curve.name + '  ' + curve.y[best]);
      }
      if (!nearest) return hide();
      cursor.setAttribute('x1', nearest.at);
      cursor.setAttribute('x2', nearest.at);
      cursor.style.visibility = tip.style.visibility = 'visible';
      tip.textContent = 'step ' + nearest.x + '\n' + lines.join('\n');
      tip.style.left = Math.max(0, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 4)) + 'px';
      tip.style.top = Math.max(0, event.clientY - tip.offsetHeight - 10) + 'px';
    };
    svg.addEventListener('pointermove', show);
    svg.addEventListener('pointerdown', show);
    svg.addEventListener('pointerleave', hide);
  }
})();
