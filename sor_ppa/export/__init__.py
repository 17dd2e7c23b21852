"""Models as ONNX files and OpenVINO folders, and running them. Needs the extra ``sor_ppa[export]``.

An exported ranker computes from ``images`` (B, 3, H, W), float32 in 0..255 in the order of ``INPUT.FORMAT``,
padded at the right and the bottom with anything to multiples of ``divisibility``, and ``sizes`` (B, 2), int64
height and width without padding:

* ``image_index`` (N,) int64: the image of each object; images in order, best detection first;
* ``boxes`` (N, 4): XYXY in pixels of ``images``; ``scores`` (N,) and ``classes`` (N,) int64;
* ``masks`` (N, 1, S, S): probabilities on a grid over the box, or (N, 1, h, w): logits on a grid over the
  padded image (``RankingMask2Former``, without ``boxes``);
* ``rank_logits`` (N, K), ``rank_scores`` (N,) and ``ranks`` (N,) int64: higher is more salient, -1 = no rank.

An exported saliency model computes ``saliency`` (B, 1, H, W) in [0, 1] from the same inputs.
"""
